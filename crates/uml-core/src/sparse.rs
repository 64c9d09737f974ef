//! Sparse-file I/O.
