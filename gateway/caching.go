package gateway

import (
	"context"
	"crypto/sha256"
	"strings"

	"sallyport/gateway/cache"
)

// caching is the context with who is asking, for apps and paths that have a cache. The decision about this very request
// is durable by now: a hit is never an answer that nobody decided about.
func (x *exchange) caching(ctx context.Context) context.Context {
	rule := x.app.Cache.For(x.path)
	if !rule.Enabled || x.server.cache == nil {
		return ctx
	}
	x.viewer = &cache.Viewer{App: string(x.app.Name), URL: x.publicURL(), Told: x.toldDigest(), Credentials: x.credentials, Rule: rule,
		IdentityHeaders: x.app.tellsWho}
	if x.session != nil {
		x.viewer.Person = x.session.Identity.ID()
	}
	return cache.WithViewer(ctx, x.viewer)
}

// publicURL is the request's address as people know it, in its one canonical form.
func (x *exchange) publicURL() string { return x.app.origin + x.returnTarget() }

// tellsWho reports whether a header's value differs between people because the gateway says who is asking.
func (a *App) tellsWho(name string) bool {
	switch name {
	case "Authorization", "Cookie", "X-Forwarded-For", "X-Request-Id":
		return true
	}
	return strings.HasPrefix(name, "X-Sallyport-") || a.headers.IsTold(name)
}

// toldDigest tells apart what the app is told of people: with another one goes another part of the cache.
func (x *exchange) toldDigest() (nothing [sha256.Size]byte) {
	if !x.app.SendsIdentity() && !x.app.headers.Tells() {
		return nothing
	}
	return told(x.session).Digest()
}
