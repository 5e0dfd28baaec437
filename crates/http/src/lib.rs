//! Listeners, routes and middleware.
