//! Tests of one replica.
