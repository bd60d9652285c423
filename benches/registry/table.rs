//! What is printed: one line for each case, both sides beside each other.

/// How a case is judged.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// For information.
    None,
}

/// Prints what the columns of the next lines are.
pub(crate) fn heading(title: &str, other: &str) {
    println!("\n{title:<40} {other:>14} {:>14} {:>12} {:>8}", "registry", "result", "goal");
}

/// Prints a case; `result` and the goal are in `unit`.
pub(crate) fn line(case: &str, (other, ours): (&str, &str), result: f64, unit: &str, goal: Goal) {
    let (goal, met) = match goal {
        Goal::AtLeast(least) => (format!(">= {least}"), result >= least),
        Goal::AtMost(most) => (format!("<= {most}"), result <= most),
        Goal::None => (String::new(), true),
    };
    let verdict = if met { "" } else { "  MISSED" };
    let digits = usize::from(result < 10.0);
    println!("  {case:<38} {other:>14} {ours:>14} {result:>6.digits$} {unit:<5} {goal:>8}{verdict}");
}

/// The middle of some measurements.
pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// The measurement below which so many of a hundred are.
pub(crate) fn percentile(mut all: Vec<f64>, percent: usize) -> f64 {
    all.sort_by(f64::total_cmp);
    all[(all.len() * percent / 100).min(all.len() - 1)]
}
