"""HTTP: schemas, routes, errors and what every request passes through."""
