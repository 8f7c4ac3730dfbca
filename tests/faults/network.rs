//! Links that lose, delay, duplicate, reorder, go one way, move or end, in namespaces of their own.
