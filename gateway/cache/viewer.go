package cache

import "context"

// Viewer is who is asking, as far as it matters for who may see what, and what came of it. The caller has authenticated,
// decided and recorded the request before it hands the Viewer in.
type Viewer struct {
	// App is the partition of everything: nothing is shared between apps.
	App string
	// URL is the public, absolute, canonical URL of the request: scheme://authority/path?query. It is the primary key,
	// so host and scheme are part of it.
	URL string
	// Person is the identity's id; empty for strangers, who are one person per Told.
	Person string
	// Told is a digest of everything the gateway tells the app about the person. When it changes, so does the partition.
	Told [32]byte
	// Credentials says that the client's request carried cookies for the app or Authorization.
	Credentials bool
	// Rule is what the operator allows for this path.
	Rule Rule
	// IdentityHeaders reports whether a request header tells who is asking. An answer that varies by one is never
	// shared. nil means that none does.
	IdentityHeaders func(name string) bool

	// Result says what came of the request. RoundTrip sets it before it returns, and does not touch it afterwards.
	Result Result
}

// Result says where an answer came from: a small, fixed set of words, for records and metrics.
type Result string

const (
	// Hit is an answer that was stored or was just being fetched for somebody else: this request asked the app nothing.
	Hit Result = "hit"
	// Miss is an answer of the app.
	Miss Result = "miss"
	// Stale is a stored answer past its time, which the app or the client allowed to be used.
	Stale Result = "stale"
	// Revalidated is a stored answer that the app has just confirmed.
	Revalidated Result = "revalidated"
	// Bypass is a request the cache had nothing to do with: another method, an upgrade, no-store.
	Bypass Result = "bypass"
)

type viewerKey struct{}

// WithViewer says who is asking. A request whose context has no Viewer bypasses the cache.
func WithViewer(ctx context.Context, v *Viewer) context.Context {
	return context.WithValue(ctx, viewerKey{}, v)
}

func viewerOf(ctx context.Context) *Viewer {
	v, _ := ctx.Value(viewerKey{}).(*Viewer)
	return v
}
