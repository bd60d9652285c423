//! Compares the README with what was printed: its transcript is made of the quickstart's own lines.

use anyhow::{Context, Result};

use crate::screen::{Proofs, printed};

const BEGIN: &str = "<!-- printed by the quickstart -->\n";
const END: &str = "<!-- end of what the quickstart prints -->";

/// Checks that the README's transcript has only lines that were printed, in their order. `…` is what was left out. The registry
/// at `host` has its usual port there.
pub(crate) fn compare(host: &str, proofs: &mut Proofs) -> Result<()> {
    let page = std::fs::read_to_string("README.md").context("cannot read README.md")?;
    let (_, rest) = page.split_once(BEGIN).context("the README has no transcript")?;
    let (transcript, _) = rest.split_once(END).context("the README's transcript has no end")?;
    let screen = printed().replace(host, "127.0.0.1:8443");
    let mut lines = screen.lines();
    let missing = transcript
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("```"))
        .find(|line| !lines.any(|printed| is_same(line, printed)));
    let missing = missing.map(|line| format!(": not printed, or not in this order: {line}"));
    let claim = format!("the README shows what is printed{}", missing.as_deref().unwrap_or_default());
    proofs.check(missing.is_none(), claim);
    Ok(())
}

/// Whether a line of the README is this printed line, which may be longer where the README has `…`. Times, spaces of columns and
/// the client's name may differ.
fn is_same(shown: &str, printed: &str) -> bool {
    let plain = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    let (shown, printed) = (plain(shown), plain(printed));
    let mut rest = printed.as_str();
    let parts: Vec<&str> = shown.split('…').collect();
    let last = parts.len() - 1;
    for (at, part) in parts.iter().enumerate() {
        let found = match at {
            _ if at == 0 && at == last => (rest == *part).then_some(rest.len()),
            0 => rest.starts_with(part).then_some(part.len()),
            _ if at == last => rest.ends_with(part).then_some(rest.len()),
            _ => rest.find(part).map(|from| from + part.len()),
        };
        match found {
            Some(end) => rest = &rest[end..],
            None => return false,
        }
    }
    true
}

/// A word without what differs from run to run: an age, the client.
fn word(word: &str) -> &str {
    let age = word.strip_suffix('s').is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()));
    match word {
        "tofu" => "terraform",
        "OpenTofu" => "Terraform",
        _ if age => "AGE",
        word => word,
    }
}
