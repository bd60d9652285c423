//! The real parts that OpenDepot is tested on.
