//! Tables for papers.

use models::escape::latex as escaped;

use super::{Cell, Row, Table};

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
