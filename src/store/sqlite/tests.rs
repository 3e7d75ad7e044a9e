//! What only the SQLite backend does.
