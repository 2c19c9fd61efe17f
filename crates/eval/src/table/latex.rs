//! Tables for papers.

use super::{Cell, Row, Table};

/// How a character is set in LaTeX.
enum Set {
    Text(&'static str),
    Math(&'static str),
    AsIs,
    /// pdfLaTeX has no glyph for it without further packages.
    Unknown,
}

/// LaTeX command that shrinks a table to the width of the text if it is wider.
const FITTED: &str = "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}";

/// Formats a `table` environment with booktabs' rules and the notes below.
pub(super) fn table(table: &Table) -> String {
    let Table { title, labels, columns, rows, notes } = table;
    let line = |cells: Vec<String>| format!("    {} \\\\\n", cells.join(" & "));
    let mut text = format!(
        "% Needs \\usepackage{{booktabs,graphicx}}.\n\\begin{{table}}\n  \\centering\n  \\caption{{{}}}\n  {FITTED}{{%\n  \
         \\begin{{tabular}}{{{}{}}}\n    \\toprule\n",
        escaped(title),
        "l".repeat(labels.len()),
        "r".repeat(columns.len()),
    );
    text += &line(labels.iter().chain(columns).map(|head| escaped(head)).collect());
    text += "    \\midrule\n";
    for Row { labels, cells } in rows {
        text += &line(labels.iter().map(|label| escaped(label)).chain(cells.iter().map(number)).collect());
    }
    text += "    \\bottomrule\n  \\end{tabular}}\n";
    if !notes.is_empty() {
        text += "\n  \\medskip\n  \\begin{minipage}{\\linewidth}\\footnotesize\n";
        for note in notes {
            text += &format!("    {}\\par\n", escaped(note));
        }
        text += "  \\end{minipage}\n";
    }
    text + "\\end{table}\n"
}

/// Formats a number with a typographic minus sign; the best is bold.
fn number(cell: &Cell) -> String {
    let text = cell.text();
    let signed = text.starts_with(['-', '+']);
    match (cell.is_best(), signed) {
        (true, true) => format!("$\\mathbf{{{text}}}$"),
        (true, false) => format!("\\textbf{{{text}}}"),
        (false, true) => format!("${text}$"),
        (false, false) => escaped(&text),
    }
}

/// Escapes text so that it contains no LaTeX command.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    let mut math = false;
    for character in text.chars() {
        let set = set(character);
        let is_math = matches!(set, Set::Math(_));
        if is_math != math {
            out.push('$');
            math = is_math;
        }
        match set {
            Set::Text(text) | Set::Math(text) => out.push_str(text),
            Set::AsIs => out.push(character),
            Set::Unknown => out.push_str(&format!("[U+{:04X}]", u32::from(character))),
        }
    }
    if math {
        out.push('$');
    }
    out
}

fn set(character: char) -> Set {
    match character {
        '&' => Set::Text("\\&"),
        '%' => Set::Text("\\%"),
        '$' => Set::Text("\\$"),
        '#' => Set::Text("\\#"),
        '_' => Set::Text("\\_"),
        '{' => Set::Text("\\{"),
        '}' => Set::Text("\\}"),
        '~' => Set::Text("\\textasciitilde{}"),
        '^' => Set::Text("\\textasciicircum{}"),
        '\\' => Set::Text("\\textbackslash{}"),
        // Characters with other glyphs in the default encoding, and characters that form ligatures.
        '<' => Set::Math("<"),
        '>' => Set::Math(">"),
        '|' => Set::Math("|"),
        '"' => Set::Text("''"),
        '[' => Set::Text("{[}"),
        '`' => Set::Text("\\textasciigrave{}"),
        '\n' | '\t' | '\r' => Set::Text(" "),
        '↑' => Set::Math("\\uparrow "),
        '↓' => Set::Math("\\downarrow "),
        '→' => Set::Math("\\to "),
        'λ' => Set::Math("\\lambda "),
        'α' => Set::Math("\\alpha "),
        'π' => Set::Math("\\pi "),
        'Δ' => Set::Math("\\Delta "),
        'Σ' => Set::Math("\\Sigma "),
        '₀' => Set::Math("_0"),
        '₁' => Set::Math("_1"),
        '₂' => Set::Math("_2"),
        '²' => Set::Math("^2"),
        '³' => Set::Math("^3"),
        '−' => Set::Math("-"),
        '×' => Set::Math("\\times "),
        '÷' => Set::Math("\\div "),
        '±' => Set::Math("\\pm "),
        '·' => Set::Math("\\cdot "),
        '≤' => Set::Math("\\le "),
        '≥' => Set::Math("\\ge "),
        'µ' | 'μ' => Set::Math("\\mu "),
        '–' => Set::Text("--"),
        '—' => Set::Text("---"),
        '…' => Set::Text("\\dots{}"),
        '“' => Set::Text("``"),
        '”' => Set::Text("''"),
        '‘' => Set::Text("`"),
        '’' => Set::Text("'"),
        '\u{a0}' => Set::Text("~"),
        ' '..='~' => Set::AsIs,
        // Accented letters, which every recent LaTeX reads; not the Icelandic ones, which need T1.
        'À'..='ÿ' if !matches!(character, 'Ð' | 'ð' | 'Þ' | 'þ') => Set::AsIs,
        _ => Set::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    #[test]
    fn escaped_text_contains_no_commands() {
        assert_snapshot!(escaped("TokenRank, λ₂ ↓ (α = 0.99)"), @r"TokenRank, $\lambda _2$ $\downarrow $ ($\alpha $ = 0.99)");
        assert_snapshot!(escaped(r#"a\b{c}_d^e~f&g%h#i$j <k> "l" [m]"#), @r"a\textbackslash{}b\{c\}\_d\textasciicircum{}e\textasciitilde{}f\&g\%h\#i\$j $<$k$>$ ''l'' {[}m]");
        assert_snapshot!(escaped("Dünkel – 12 − 3 … “x” \u{1f600}日"), @"Dünkel -- 12 $-$ 3 \\dots{} ``x'' [U+1F600][U+65E5]");
    }
}
