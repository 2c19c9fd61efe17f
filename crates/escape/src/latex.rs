//! Escapes text for LaTeX.

/// How a character is set in LaTeX.
enum Set {
    Text(&'static str),
    Math(&'static str),
    AsIs,
    /// pdfLaTeX has no glyph for it without further packages.
    Unknown,
}

/// Escapes text so that it contains no LaTeX command.
pub fn latex(text: &str) -> String {
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
    use super::*;

    #[test]
    fn escaped_text_contains_no_commands() {
        for (text, escaped) in [
            ("TokenRank, λ₂ ↓ (α = 0.99)", r"TokenRank, $\lambda _2$ $\downarrow $ ($\alpha $ = 0.99)"),
            (
                r#"a\b{c}_d^e~f&g%h#i$j <k> "l" [m]"#,
                r"a\textbackslash{}b\{c\}\_d\textasciicircum{}e\textasciitilde{}f\&g\%h\#i\$j $<$k$>$ ''l'' {[}m]",
            ),
            ("Dünkel – 12 − 3 … “x” \u{1f600}日", "Dünkel -- 12 $-$ 3 \\dots{} ``x'' [U+1F600][U+65E5]"),
            ("\u{1b}[2J\u{202e}\n\\input", "[U+001B]{[}2J[U+202E] \\textbackslash{}input"),
        ] {
            assert_eq!(latex(text), escaped);
        }
    }
}
