//! The stages of shutdown.

use tokio::sync::watch;

/// What the listener does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Running,
    /// Serves, and closes each connection after its answer, so that the client's next one reaches another replica.
    Draining,
    /// Accepts no connection, and ends.
    Closing,
}

/// Sets the stage.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Stage>);

/// Shows the stage.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Stage>);

impl Stopper {
    /// A pair of both. Dropping the stopper closes the listener.
    pub fn new() -> (Self, Stop) {
        let (sender, receiver) = watch::channel(Stage::Running);
        (Self(sender), Stop(receiver))
    }

    /// Every answer from now on closes its connection. New connections are accepted.
    pub fn drain(&self) {
        let _ = self.0.send(Stage::Draining);
    }

    /// Stops accepting, closes idle connections, and lets running requests end.
    pub fn close(&self) {
        let _ = self.0.send(Stage::Closing);
    }
}

impl Stop {
    /// Whether connections are closed after their answers.
    pub(super) fn draining(&self) -> bool {
        *self.0.borrow() >= Stage::Draining
    }

    /// Resolves when the listener has to close.
    pub(super) async fn closing(&mut self) {
        // An error means that the stopper is gone.
        let _ = self.0.wait_for(|stage| *stage == Stage::Closing).await;
    }
}
