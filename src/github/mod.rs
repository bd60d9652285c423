//! Fetches archives from GitHub.
