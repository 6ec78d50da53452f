//! Watches that stall, are cut, replay old objects or skip events.
