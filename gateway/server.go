package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sallyport/audit"
	"sallyport/authn/session"
	"sallyport/gateway/cache"
	"sallyport/gateway/listen"
	"sallyport/gateway/shadow"
	"sallyport/gateway/shield"
	"sallyport/gateway/spool"
	"sallyport/gateway/ui"
)

// Decisions is the log that every decision is written to. Append returns once the record is durable and an error
// when it may not become so; Post accepts a record for the next commit without waiting; Healthy says why nothing
// may be served. All may be called at once from many goroutines.
type Decisions interface {
	Append(ctx context.Context, r *audit.Record) (audit.Receipt, error)
	Post(ctx context.Context, r *audit.Record) error
	Healthy() error
}

// Sessions finds the session behind an app host's handle: session.ErrNoSession when there is none, another error
// when nobody can tell, which refuses.
type Sessions interface {
	Lookup(ctx context.Context, host, handle string) (*session.Session, error)
	SignedIn(ctx context.Context, handle string) (*session.Session, error)
	// Seal and Open make and read a text that only we can make, for one purpose.
	Seal(purpose string, plain []byte) string
	Open(purpose, sealed string) ([]byte, error)
}

// Control is the log of what the gateway does besides deciding. The record is durable when Record returns nil; after an
// error what it records must not happen. It may be called at once from many goroutines.
type Control interface {
	Record(ctx context.Context, r *audit.Record) error
}

// Assertions vouches to an app for the person behind a session.
type Assertions interface {
	Assertion(ctx context.Context, s *session.Session, audience string) (string, error)
	// JWKS is the document by which apps check assertions.
	JWKS() []byte
}

// Options are the parts of a Server; all are required except Cache and Now.
type Options struct {
	Decisions  Decisions
	Window     Counts
	Sessions   Sessions
	Assertions Assertions
	Control    Control
	Personal   PersonalTokens // nil: nobody has any
	Portal     Portal         // what people see and change of their own
	Recheck    Rechecker      // nil: providers are not asked again
	Custody    Custody        // of sessions that are used elsewhere
	Forms      Forms          // nil: none are kept
	Cache      *cache.Cache   // nil: no app has one
	Spool      *spool.Spooler
	Shield     *shield.Shield     // nil: one with the default settings
	Connecting listen.Connections // what connections may cost
	// ClientKeys is the JSON Web Key Set of the keys that identity providers know us by, as it is now. Nil: there are none.
	ClientKeys func() []byte
	// KeysLife is how long the two key sets may be kept by who reads them: less than keys are published before they are
	// used. Nil: not at all.
	KeysLife func() time.Duration
	Pages    *ui.Pages
	Metrics  *prometheus.Registry
	Log      *slog.Logger
	Now      func() time.Time
}

// Server is the gateway: an http.Handler and the watch over what it has open.
type Server struct {
	// Set once.
	decisions   Decisions
	sessions    Sessions
	assertions  Assertions
	control     Control
	personal    PersonalTokens
	portal      Portal
	rechecker   Rechecker
	custody     Custody
	forms       Forms
	crossSite   *http.CrossOriginProtection
	cache       *cache.Cache
	spool       *spool.Spooler
	shield      *shield.Shield
	inspections *inspections
	buffers     *bufferPool
	clientKeys  func() []byte
	keysLife    func() time.Duration
	pages       *ui.Pages
	metrics     *metrics
	log         *slog.Logger
	now         func() time.Time
	window      Counts
	accounts    *accounts
	countsAway  func(*exchange) bool // whose refusals may be counted; tests try worse
	streams     *streams
	connections *connections
	connecting  listen.Connections
	crowd       crowd
	awaited     *awaited
	swapped     chan struct{}
	answering   time.Duration
	whys        whys

	snapshot atomic.Pointer[Snapshot]
	trial    atomic.Pointer[shadow.Trial] // nil: no candidate policy is tried
	open     atomic.Int64                 // exchanges between begin and finish
	draining atomic.Bool                  // no new streams
}

// New builds a server that serves the given snapshot.
func New(opts Options, first *Snapshot) *Server {
	s := &Server{
		decisions: opts.Decisions, sessions: opts.Sessions, assertions: opts.Assertions, control: opts.Control, personal: opts.Personal, portal: opts.Portal, rechecker: opts.Recheck, custody: opts.Custody, forms: opts.Forms, crossSite: http.NewCrossOriginProtection(), cache: opts.Cache, spool: opts.Spool, shield: opts.Shield, buffers: newBufferPool(), clientKeys: opts.ClientKeys, keysLife: opts.KeysLife, pages: opts.Pages,
		metrics: newMetrics(opts.Metrics), log: opts.Log, now: opts.Now, streams: newStreams(),
		swapped: make(chan struct{}, 1), answering: answering, whys: newWhys(), connecting: opts.Connecting, crowd: crowd{most: int64(opts.Connecting.Requests)}, awaited: newAwaited(opts.Connecting.Requests),
	}
	if s.shield == nil {
		s.shield = shield.New(shield.Config{})
	}
	s.inspections = newInspections(opts.Metrics, s.shield)
	if s.now == nil {
		s.now = time.Now
	}
	if s.clientKeys == nil {
		s.clientKeys = func() []byte { return []byte(`{"keys":[]}`) }
	}
	if s.keysLife == nil {
		s.keysLife = func() time.Duration { return 0 }
	}
	s.window, s.accounts, s.countsAway = opts.Window, newAccounts(s.now()), (*exchange).unidentified
	s.accounts.register(opts.Metrics)
	s.connections = &connections{refused: func(reason string, peer netip.Addr) {
		s.metrics.unparsed.WithLabelValues(reason).Inc()
		s.count(reason, "", peer)
	}}
	first.start()
	s.snapshot.Store(first)
	return s
}

// Swap makes a snapshot the one that requests from now on are judged by. Requests under way keep theirs; streams
// are decided again at once.
func (s *Server) Swap(next *Snapshot) {
	next.start()
	s.snapshot.Store(next)
	select {
	case s.swapped <- struct{}{}:
	default: // a re-decision is waiting already and will see this snapshot
	}
}

// Dropped counts a connection that was closed before TLS, or because of a limit, for a reason that is a fixed code.
func (s *Server) Dropped(reason string, peer netip.Addr) { s.connections.refused(reason, peer) }

// Snapshot is the one that requests are judged by now.
func (s *Server) Snapshot() *Snapshot { return s.snapshot.Load() }

// SessionEnded ends what a session has open, on one host or, with an empty host, everywhere.
func (s *Server) SessionEnded(ended session.Ended) {
	s.streams.endSession(ended.SessionID, ended.Host, sessionCause(ended.Reason))
}

// Run watches open exchanges until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var watchers sync.WaitGroup
	watchers.Go(func() { s.watchStreams(ctx) })
	watchers.Go(func() { s.watchLog(ctx) })
	watchers.Wait()
	return nil
}

// EndStreams ends every exchange that would not end by itself, upgraded connections and event streams, and those that
// would become such from now on. Requests that are being answered finish.
func (s *Server) EndStreams() {
	s.draining.Store(true)
	for _, x := range s.streams.all() {
		if x.endless() {
			x.cancel(ErrShutdown)
		}
	}
}

// AwaitFirstRequests returns when every connection has asked for something, or ctx ends.
func (s *Server) AwaitFirstRequests(ctx context.Context) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for s.connections.silent() {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}

// EndAll ends every exchange and returns when their outcomes are handed to the log, or with ctx's error.
func (s *Server) EndAll(ctx context.Context) error {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for s.open.Load() > 0 {
		s.streams.endAll(ErrShutdown)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d requests are still open: %w", s.open.Load(), ctx.Err())
		case <-poll.C:
		}
	}
	return nil
}

const (
	// maxHead bounds the head of a request: larger ones get 431 from net/http.
	maxHead = 64 << 10
	// received bounds what an HTTP/2 client may send of bodies before anybody reads it, on all of its streams together.
	received = 1 << 20
	// untaken is how long an HTTP/2 client may take nothing at all of what its connection is sent. Pauses in one answer
	// are bounded by its app's timeouts.client.
	untaken = 2 * time.Minute
)

// HTTPServer is the net/http server in front of the pipeline, with every limit set. Some bounds of HTTP/2 are net/http's
// own: a head ends its connection as soon as its frames exceed maxHead, and so do 10,000 answers to pings and the like
// that the client does not take, and requests taken back when five times as many as may be open are still being answered.
func (s *Server) HTTPServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:                      s,
		Protocols:                    protocols,
		ReadHeaderTimeout:            s.connecting.Head,
		IdleTimeout:                  s.connecting.Idle,
		MaxHeaderBytes:               maxHead,
		HTTP2:                        s.http2(),
		DisableGeneralOptionsHandler: true, // "OPTIONS *" would be answered without a decision
		ConnContext:                  s.connections.context,
		ConnState:                    s.connections.state,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

// http2 bounds what HTTP/2 adds. A client that does not answer a ping has gone, or is in the middle of a frame or a head
// that does not end: nothing else limits how long these take.
func (s *Server) http2() *http.HTTP2Config {
	return &http.HTTP2Config{MaxConcurrentStreams: s.connecting.Streams, MaxReceiveBufferPerConnection: received, MaxReceiveBufferPerStream: received,
		SendPingTimeout: s.connecting.Ping, PingTimeout: s.connecting.Ping, WriteByteTimeout: untaken}
}
