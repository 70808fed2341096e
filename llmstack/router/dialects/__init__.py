"""What a request says in each client API, and how an error looks there."""
