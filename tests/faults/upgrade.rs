//! Databases of every released schema, and migrations cut short.
