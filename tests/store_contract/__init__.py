"""What the tests and benches of session stores share: real Redis servers, and each store made for the contract."""
