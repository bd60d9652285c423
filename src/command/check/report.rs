//! The result of `opendepot check`: one line per check, as text or JSON. Pure.

use std::fmt;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckResult {
    Ok,
    Failed,
    /// Not checked: an argument is missing, or an earlier check failed.
    Skipped,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub result: CheckResult,
    /// What was checked: `cluster`, `crds`, `rights`, `aws`, `bucket`, `github` or `egress`.
    pub check: &'static str,
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// All checks, in the order in which they are printed.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The release of this binary.
    pub version: &'static str,
    pub failed: usize,
    pub checks: Vec<Line>,
}

impl Line {
    pub fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { result: CheckResult::Ok, check, message: message.into(), fix: None }
    }

    pub fn failed(check: &'static str, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { result: CheckResult::Failed, check, message: message.into(), fix: Some(fix.into()) }
    }

    pub fn skipped(check: &'static str, message: impl Into<String>) -> Self {
        Self { result: CheckResult::Skipped, check, message: message.into(), fix: None }
    }
}

impl Report {
    pub fn new(checks: Vec<Line>) -> Self {
        let failed = checks.iter().filter(|line| line.result == CheckResult::Failed).count();
        Self { version: env!("CARGO_PKG_VERSION"), failed, checks }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { result, check, message, fix } in &self.checks {
            let result = match result {
                CheckResult::Ok => "ok",
                CheckResult::Failed => "failed",
                CheckResult::Skipped => "skipped",
            };
            writeln!(f, "{result:<8} {check:<8} {message}")?;
            if let Some(fix) = fix {
                writeln!(f, "{:<17} fix: {fix}", "")?;
            }
        }
        match self.failed {
            0 => write!(f, "Nothing failed."),
            1 => write!(f, "1 check failed."),
            count => write!(f, "{count} checks failed."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fix_stands_below_its_line_and_failures_are_counted() {
        let lines = vec![
            Line::ok("cluster", "Kubernetes v1.35.0"),
            Line::failed("crds", "no modules", "install them"),
            Line::skipped("bucket", "no --bucket"),
        ];
        let report = Report::new(lines);
        let expected = "ok       cluster  Kubernetes v1.35.0\nfailed   crds     no modules\n                  fix: install them\n\
                        skipped  bucket   no --bucket\n1 check failed.";
        assert_eq!((report.failed, report.to_string().as_str()), (1, expected));
        assert_eq!(Report::new(Vec::new()).to_string(), "Nothing failed.");
    }
}
