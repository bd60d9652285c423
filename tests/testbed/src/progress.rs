//! How far long work is, and how long it still takes: one bar on a terminal, a line now and then elsewhere.

use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::background::lock;

/// Without a terminal, a line is printed as often as this.
const LINES: Duration = Duration::from_secs(30);
/// The length of the bar. Its unit is a thousandth of the whole.
const WHOLE: u64 = 1_000;

/// Parts of work that are done one after the other.
#[derive(Debug)]
pub struct Progress {
    parts: Arc<Mutex<Parts>>,
    bar: Option<ProgressBar>,
    printed: Mutex<Instant>,
}

impl Progress {
    /// Lines only: tests run at once, and print.
    pub fn lines() -> Self {
        let parts = Arc::new(Mutex::new(Parts::default()));
        Self { parts, bar: None, printed: Mutex::new(Instant::now()) }
    }

    /// A bar on standard error, where that is a terminal.
    pub fn on_terminal() -> Self {
        let mut progress = Self::lines();
        if std::io::stderr().is_terminal() {
            progress.bar = Some(bar(&progress.parts));
        }
        progress
    }

    /// Adds a part that probably takes so long.
    pub fn plan(&self, name: &str, takes: Duration) {
        lock(&self.parts).0.push(Part { name: name.to_owned(), takes, begun: None, done: 0.0 });
    }

    /// Begins a part, which comes next if it was not planned.
    pub fn begin(&self, name: &str, takes: Duration) {
        let text = {
            let mut parts = lock(&self.parts);
            parts.begin(name, takes, Instant::now());
            parts.text(Instant::now())
        };
        self.show(&text, true);
    }

    /// The current part probably takes so long, as is known now.
    pub fn takes(&self, time: Duration) {
        if let Some(part) = lock(&self.parts).current_mut() {
            part.takes = time;
        }
    }

    /// A planned part will not come.
    pub fn cancel(&self, name: &str) {
        lock(&self.parts).0.retain(|part| part.begun.is_some() || part.name != name);
    }

    /// The current part is done up to here.
    pub fn advance(&self, done: u64, of: u64) {
        let text = {
            let mut parts = lock(&self.parts);
            if let Some(part) = parts.current_mut() {
                part.done =
                    Duration::from_secs(done).div_duration_f64(Duration::from_secs(of.max(1))).min(1.0);
            }
            parts.text(Instant::now())
        };
        self.show(&text, false);
    }

    /// Prints a line above the bar.
    pub fn say(&self, text: &str) {
        // Not `eprintln`, which a test keeps to itself: who waits for minutes wants to know what for.
        self.above(|| drop(writeln!(std::io::stderr(), "{text}")));
    }

    /// Does what prints, without the bar.
    pub fn above<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Removes the bar.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&self, text: &str, new: bool) {
        if let Some(bar) = &self.bar {
            bar.set_position(lock(&self.parts).thousandths(Instant::now()));
            return;
        }
        let mut printed = lock(&self.printed);
        if new || printed.elapsed() >= LINES {
            *printed = Instant::now();
            self.say(text);
        }
    }
}

fn bar(parts: &Arc<Mutex<Parts>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(WHOLE), ProgressDrawTarget::stderr());
    let parts = Arc::clone(parts);
    let text = move |_: &ProgressState, to: &mut dyn fmt::Write| {
        let _ = to.write_str(&lock(&parts).text(Instant::now()));
    };
    if let Ok(style) = ProgressStyle::with_template("[{bar:24}] {text}") {
        bar.set_style(style.with_key("text", text).progress_chars("=> "));
    }
    bar.enable_steady_tick(Duration::from_secs(1));
    bar
}

#[derive(Debug)]
struct Part {
    name: String,
    takes: Duration,
    begun: Option<Instant>,
    done: f64,
}

#[derive(Debug, Default)]
struct Parts(Vec<Part>);

impl Parts {
    fn begin(&mut self, name: &str, takes: Duration, now: Instant) {
        let waits = |part: &Part| part.begun.is_none();
        let planned = self.0.iter().position(|part| waits(part) && part.name == name);
        let at = planned.unwrap_or_else(|| {
            let next = self.0.iter().position(waits).unwrap_or(self.0.len());
            self.0.insert(next, Part { name: name.to_owned(), takes, begun: None, done: 0.0 });
            next
        });
        self.0[at].begun = Some(now);
    }

    fn current_mut(&mut self) -> Option<&mut Part> {
        self.0.iter_mut().rev().find(|part| part.begun.is_some())
    }

    /// The time that is left: of the current part by its own speed, once a fifth of it is done (downloads at its
    /// beginning say little about the rest); of the others as planned.
    fn left(&self, now: Instant) -> Duration {
        let (begun, planned): (Vec<_>, Vec<_>) = self.0.iter().partition(|part| part.begun.is_some());
        let current = begun.last().and_then(|part| Some((part, now.checked_duration_since(part.begun?)?)));
        let left = current.map(|(part, elapsed)| {
            if part.done >= 0.2 {
                elapsed.mul_f64((1.0 - part.done) / part.done)
            } else {
                part.takes.saturating_sub(elapsed)
            }
        });
        left.unwrap_or_default() + planned.iter().map(|part| part.takes).sum::<Duration>()
    }

    /// How much of the time is over, in thousandths.
    fn thousandths(&self, now: Instant) -> u64 {
        let begun = self.0.first().and_then(|part| now.checked_duration_since(part.begun?));
        let (over, left) = (begun.unwrap_or_default().as_millis(), self.left(now).as_millis());
        u64::try_from(over * u128::from(WHOLE) / (over + left).max(1)).unwrap_or(WHOLE)
    }

    fn text(&self, now: Instant) -> String {
        let current = self.0.iter().rev().find(|part| part.begun.is_some());
        let name = current.map_or("", |part| part.name.as_str());
        let mut text = format!("{} %, {} left: {name}", self.thousandths(now) / 10, about(self.left(now)));
        text.truncate(text.trim_end_matches(": ").len());
        text
    }
}

/// Whole minutes, or tens of seconds.
fn about(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..90 => format!("about {} s", seconds.div_ceil(10) * 10),
        seconds => format!("about {} min", seconds.div_ceil(60)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(now: Instant) -> Parts {
        let part = |name: &str, takes, begun: Option<u64>, done| Part {
            name: name.to_owned(),
            takes: Duration::from_secs(takes),
            begun: begun.map(|ago| now.checked_sub(Duration::from_secs(ago)).unwrap()),
            done,
        };
        Parts(vec![
            part("downloading", 30, Some(40), 1.0),
            part("building", 300, Some(20), 0.0),
            part("steps", 15, None, 0.0),
        ])
    }

    #[test]
    fn what_is_left_is_as_planned_until_the_speed_is_known() {
        let now = Instant::now();
        let mut parts = parts(now);
        assert_eq!(parts.left(now), Duration::from_secs(280 + 15));
        parts.0[1].done = 0.1;
        assert_eq!(parts.left(now), Duration::from_secs(280 + 15));
        parts.0[1].done = 0.2;
        assert_eq!(parts.left(now), Duration::from_secs(80 + 15));
        parts.0[1].done = 1.0;
        assert_eq!(parts.left(now), Duration::from_secs(15));
    }

    #[test]
    fn the_text_has_how_much_is_done_and_left() {
        let now = Instant::now();
        let mut parts = parts(now);
        assert_eq!(parts.text(now), "11 %, about 5 min left: building");
        parts.0[1].done = 0.5;
        assert_eq!(parts.text(now), "53 %, about 40 s left: building");
        assert_eq!(Parts::default().text(now), "0 %, about 0 s left");
    }
}
