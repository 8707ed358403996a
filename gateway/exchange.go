package gateway

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/authn/token"
	"sallyport/gateway/cache"
	"sallyport/gateway/canon"
	"sallyport/gateway/spool"
	"sallyport/gateway/upstream"
	"sallyport/policy"
)

// exchange is one request and its answer. Its stages run in one goroutine, in the order of serve; what later
// re-decisions of a long exchange change is guarded by its own fields.
type exchange struct {
	server *Server
	snap   *Snapshot
	w      *response
	r      *http.Request
	conn   *connection
	id     string
	start  time.Time
	ctx    context.Context // ends with the request, or earlier with a cause
	cancel context.CancelCauseFunc

	req         *canon.Request   // admit
	app         *App             // match
	path        string           // match: the path as policy and app see it
	escapedPath string           // match: the same, as it goes on the upstream's request line
	destination writing          // match: what COPY and MOVE write to
	session     *session.Session // identify
	handle      string           // identify: the cookie value the session was found by
	machine     bool             // identify: session stands for a program, which has none
	bearer      *token.Bearer    // identify: the token that it showed; nil: none
	body        *spool.Body      // inspect or forward: all of it
	kept        *keptForm        // own: what is sent again in place of the request
	findings    *policy.Shield   // inspect: nil where nothing was inspected
	input       *policy.Input    // decide
	verdict     *policy.Verdict
	receipt     audit.Receipt // record
	recorded    audit.Effect  // of the one decision record; empty while there is none
	refusal     *Refusal
	entered     []personAccount // limit, oblige: what it counts for as under way
	charges     []charge        // limit, oblige: what it was charged
	isOwn       bool            // an endpoint of the gateway itself: no policy decision
	served      bool            // forwarded to the app

	inCrowd        bool                          // join: until there is a verdict
	awaited        bool                          // inspect: a stranger's body
	auditFailed    bool                          // the decision could not be recorded: there is nothing more to write
	streaming      bool                          // forward: neither body waits in the spool
	credentials    bool                          // forward: the client sent the app a cookie or Authorization
	viewer         *cache.Viewer                 // forward: nil where there is no cache
	bodyIn         *clientBody                   // forward
	hint           atomic.Pointer[upstream.Hint] // leg: the address that answered
	blockedCookies atomic.Pointer[[]string]      // leg: names the app tried to set and may not
	upstreamErr    error
	progress
}

// progress is what the watch over open exchanges looks at, from another goroutine.
type progress struct {
	kind    atomic.Int32 // of the answer: kindPlain, kindEvents or kindGRPC
	decided atomic.Int64 // Unix nanoseconds of the newest decision
	every   atomic.Int64 // nanoseconds after which it is decided again
	read    atomic.Int64 // bytes of the request's body
	writing atomic.Bool  // the client is to take a part of the answer

	// The watch's own.
	moved   int64 // bytes in both directions when it looked last
	movedAt time.Time
}

// begin gives the request its id, its clock and the one snapshot that it is judged by.
func (s *Server) begin(w http.ResponseWriter, r *http.Request) *exchange {
	ctx, cancel := context.WithCancelCause(r.Context())
	x := &exchange{
		server: s,
		snap:   s.snapshot.Load(),
		w:      &response{ResponseWriter: w},
		r:      r,
		id:     uuid.Must(uuid.NewV7()).String(),
		start:  s.now(),
		ctx:    ctx,
		cancel: cancel,
	}
	s.open.Add(1)
	x.conn = s.connections.handled(r)
	x.w.guard = x.conn.guard
	x.setTransportSecurity()
	return x
}

// endless reports whether the exchange goes on until somebody ends it.
func (x *exchange) endless() bool { return x.req.Upgrade != "" || x.kind.Load() != kindPlain }

func (x *exchange) sessionID() string {
	if x.session == nil {
		return ""
	}
	return x.session.ID
}

// appName is the name of the app that the request is for, or empty.
func (x *exchange) appName() string {
	if x.app == nil {
		return ""
	}
	return string(x.app.Name)
}

func (x *exchange) decidedAt() time.Time { return time.Unix(0, x.decided.Load()) }
