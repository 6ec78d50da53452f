//! The protocol of issuing and delivering as state machines, explored exhaustively for small sizes: two replicas,
//! three recipients, every interleaving of crashes, stale reads, lost answers and edits. What they decide is decided
//! by the operator's own functions, not by a copy of them. Protocols that are broken on purpose are caught.

mod deliver;
mod issue;
