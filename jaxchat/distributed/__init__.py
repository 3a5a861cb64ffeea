"""Several processes that train as one: how they find each other, agree, and never outlive one another."""
