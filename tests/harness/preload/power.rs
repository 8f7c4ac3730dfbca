//! Power lost.
