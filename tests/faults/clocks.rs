//! Wall clocks that jump: delivery, order and liveness do not depend on them.
