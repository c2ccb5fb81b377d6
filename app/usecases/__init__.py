"""What the service can do, one short module a capability; they import the domain only."""
