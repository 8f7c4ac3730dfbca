//! Every kind of violation is found, and its nearest clean neighbour is not one.

mod build;
mod calls;
mod end;
mod kept;
mod logs;
mod planted;
