//! Measures floors and scenarios against the budgets of the design.

fn main() {}
