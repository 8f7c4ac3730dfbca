//! The house rules as tests: who may import what, how long a file may be, what no file may hold.

mod faults;
mod imports;
mod source;
mod systemd;
mod text;
