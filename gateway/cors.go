package gateway

// preflight answers the questions that browsers ask before a page's request to another origin, where the app declares
// which may; nil when this is none.
func (x *exchange) preflight() func(*exchange) error { return nil }

// crossSiteUnsafe reports whether the request may change something and a page of another origin, which the app does not
// admit, makes the browser send it.
func (x *exchange) crossSiteUnsafe(*App) bool { return false }
