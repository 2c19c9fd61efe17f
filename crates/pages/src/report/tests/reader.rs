//! Tests that use the page in a browser like a reader.

use super::browser::Browser;
use super::*;

fn names(browser: &mut Browser) -> Vec<String> {
    let names =
        browser.eval("[...document.querySelectorAll('tr[data-item] th')].map(cell => cell.innerText)");
    serde_json::from_value(names).expect("names")
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let text = browser.eval(&format!("document.querySelector('{selector}').textContent"));
    text.as_str().expect("text").to_owned()
}

/// Returns by how many pixels the page is wider than its window.
fn overhang(browser: &mut Browser) -> i64 {
    let over = browser.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth");
    over.as_i64().expect("a number")
}

#[test]
fn ten_thousand_items_by_keyboard() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a scratch folder");
    let page = page(dir.path(), 10_000);
    browser.resize(1280, 900);
    browser.open(&page);
    assert_eq!(text(&mut browser, "[data-range]"), "1–25 of 10,000");

    // The script first shows the rows that the page contains.
    let html = std::fs::read_to_string(&page).expect("a page");
    let first = names(&mut browser);
    let at = |name: &str| html.find(&format!("scope=\"row\">{name}<")).expect("in the page");
    assert!(first.windows(2).all(|pair| at(&pair[0]) < at(&pair[1])));

    // The first tab stop skips to the content.
    browser.press("Tab");
    assert_eq!(browser.eval("document.activeElement.className"), "skip");
    // The slider of the curves is the next tab stop; the lines are not tab stops.
    browser.eval("[...document.querySelectorAll('.differences button')].at(-1).focus()");
    browser.press("Tab");
    assert_eq!(browser.eval("document.activeElement.type"), "range");

    // Column heads are buttons that sort by name, then backwards.
    let head = "document.querySelector('th[data-sort=id]')";
    browser.eval(&format!("{head}.querySelector('button').focus()"));
    browser.press("Enter");
    assert_eq!(browser.eval(&format!("{head}.getAttribute('aria-sort')")), "ascending");
    assert_eq!(names(&mut browser)[..2], ["scene/00000", "scene/00001"]);
    browser.press(" ");
    assert_eq!(browser.eval(&format!("{head}.getAttribute('aria-sort')")), "descending");
    assert_eq!(names(&mut browser)[0], "scene/09999\ntorn </script><b>JPEG</b> & \"more\"");
    assert_eq!(browser.eval("document.querySelectorAll('[aria-sort]').length"), 1);
    let outline = browser.eval("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid", "the focus can be seen");

    // Typing filters the items by name.
    browser.eval("document.querySelector('[data-filter]').focus()");
    "0123".chars().for_each(|letter| browser.press(&letter.to_string()));
    // scene/00123, scene/01230 to 01239.
    assert_eq!(text(&mut browser, "[data-range]"), "1–11 of 11, of 10,000 in all");
    browser.eval("document.querySelector('[data-filter]').value = 'no such'; document.querySelector('[data-filter]').dispatchEvent(new Event('input'))");
    assert_eq!(text(&mut browser, "td.nothing"), "No item matches.");
    browser.eval("document.querySelector('[data-filter]').value = ''; document.querySelector('[data-filter]').dispatchEvent(new Event('input'))");

    // Quick filters are a group of radio buttons: arrows move in it.
    browser.eval("document.querySelector('.bar input[value=all]').focus()");
    browser.press("ArrowRight");
    assert_eq!(text(&mut browser, "[data-range]"), "1–25 of 50, of 10,000 in all");
    browser.eval("document.querySelector('.bar input[value=failed]').click()");
    assert_eq!(names(&mut browser), ["scene/09999\ntorn </script><b>JPEG</b> & \"more\""]);
    browser.eval("document.querySelector('.bar input[value=flagged]').click()");
    assert_eq!(text(&mut browser, "[data-range]"), "1–25 of 1,000, of 10,000 in all");

    // On the last page `Next` is disabled, so the focus moves to `Previous`.
    browser.eval("document.querySelector('.bar input[value=worst]').click()");
    browser.eval("document.querySelector('[data-go=\"1\"]').focus()");
    browser.press("Enter");
    assert_eq!(text(&mut browser, "[data-range]"), "26–50 of 50, of 10,000 in all");
    assert_eq!(browser.eval("document.activeElement.dataset.go"), "-1");

    // The items are sorted by the difference of two methods.
    browser.eval("document.querySelector('.bar input[value=all]').click()");
    let choose = "const minus = document.querySelector('[data-minus]'); minus.value = '0'; minus.dispatchEvent(new Event('change'))";
    browser.eval(choose);
    let shown = browser
        .eval("[...document.querySelectorAll('tr[data-item] td.key')].map(cell => Number(cell.textContent))");
    let shown: Vec<f64> = serde_json::from_value(shown).expect("numbers");
    assert!(
        shown.len() == 25 && shown.windows(2).all(|pair| pair[0] >= pair[1]) && shown[0] > 0.5,
        "{shown:?}"
    );

    // The next page, and the details of one item.
    browser.eval("document.querySelector('[data-go=\"1\"]').focus()");
    browser.press("Enter");
    assert_eq!(text(&mut browser, "[data-range]"), "26–50 of 10,000");
    browser.eval("document.querySelector('tr[data-item] th button').focus()");
    browser.press("Enter");
    assert_eq!(browser.eval("document.activeElement.getAttribute('aria-expanded')"), "true");
    let strips = browser.eval("document.querySelectorAll('tr.more .strip').length");
    assert_eq!(strips, experiment().methods().len());
    assert!(text(&mut browser, "tr.more").contains("sed -n"));
    browser.press("Enter");
    assert_eq!(browser.eval("document.querySelectorAll('tr.more').length"), 0);

    // Curves can be used with the keyboard.
    browser.eval("document.querySelector('.at input').focus()");
    let before = text(&mut browser, ".legend .value");
    (0..6).for_each(|_| browser.press("ArrowLeft"));
    assert_ne!(text(&mut browser, ".legend .value"), before);

    let others: Vec<_> = browser
        .requests
        .iter()
        .filter(|url| !url.starts_with("file:") && !url.starts_with("data:"))
        .collect();
    assert_eq!(others, [""; 0], "the page asked for something");
    assert_eq!(browser.complaints, [""; 0]);
}

#[test]
fn the_page_adapts_to_width_colour_scheme_and_print() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a scratch folder");
    let path = page(dir.path(), 60);
    for width in [320, 375, 768, 1280] {
        browser.resize(width, 800);
        browser.open(&path);
        assert_eq!(overhang(&mut browser), 0, "{width} pixels wide");
    }
    // On a wide screen the column that decides the order is visible.
    let hidden =
        "document.querySelector('table.drill [aria-sort]').getBoundingClientRect().right - innerWidth";
    assert!(browser.eval(hidden).as_f64().expect("a number") < 0.0);
    browser.resize(320, 800);
    browser.eval("document.querySelector('tr[data-item] th button').click()");
    assert_eq!(overhang(&mut browser), 0, "with an item open");

    let paper = "getComputedStyle(document.body).backgroundColor";
    let ink = "getComputedStyle(document.querySelector('.series.ink-4')).stroke";
    browser.prefer("screen", "light");
    let light = [browser.eval(paper), browser.eval(ink)];
    browser.prefer("screen", "dark");
    let dark = [browser.eval(paper), browser.eval(ink)];
    assert_eq!((&light[0], &light[1]), (&"rgb(255, 255, 255)".into(), &"rgb(38, 38, 38)".into()));
    assert_eq!((&dark[0], &dark[1]), (&"rgb(20, 22, 27)".into(), &"rgb(232, 234, 239)".into()));
    // Printed pages are white even if the screen is dark.
    browser.prefer("print", "dark");
    assert_eq!(browser.eval(paper), "rgb(255, 255, 255)");
    assert_eq!(browser.eval("getComputedStyle(document.querySelector('.bar')).display"), "none");
    // With buttons, the repeated heads of further pages would be empty.
    let button = "getComputedStyle(document.querySelector('thead button')).display";
    assert_eq!(browser.eval(button), "contents");
    assert!(browser.screenshot(true).starts_with(b"\x89PNG"));
    assert_eq!(browser.complaints, [""; 0]);
}

/// Checks the contrast of text with its background, which WCAG requires for small text.
#[test]
fn text_has_enough_contrast() {
    let Some(mut browser) = Browser::start() else { return };
    let dir = tempfile::tempdir().expect("a scratch folder");
    browser.open(&page(dir.path(), 60));
    let contrast = r"(() => {
        const light = (colour) => {
            const [r, g, b] = colour.match(/[\d.]+/g).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const paper = (element) => {
            for (let at = element; at; at = at.parentElement) {
                const { backgroundColor } = getComputedStyle(at);
                if (!/, 0\)$/.test(backgroundColor)) return backgroundColor;
            }
            return 'rgb(255, 255, 255)';
        };
        const poor = [];
        for (const element of document.querySelectorAll('p, a, td, th, small, button:enabled, dt, dd, summary, code, span, h1, h2, h3, caption')) {
            if (!element.textContent.trim() || !element.offsetParent) continue;
            const [a, b] = [light(getComputedStyle(element).color), light(paper(element))];
            const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (ratio < 4.5) poor.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
        }
        return [...new Set(poor)];
    })()";
    for scheme in ["light", "dark"] {
        browser.prefer("screen", scheme);
        assert_eq!(browser.eval(contrast), serde_json::json!([]), "{scheme}");
    }
}
