// Package keyring is the gateway's side of the key process: a crypto.Signer for each TLS key and a JWT signer for each
// assertion key, whose private halves stay in keyd.
//
// A Client keeps one connection, over which requests are pipelined, and restores it when keyd restarts. While keyd is
// away, requests wait for it up to six seconds and then fail; there is no other key to fall back on.
package keyring

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sallyport/certs/internal/wire"
)

const (
	// answerWithin bounds every request, waiting for keyd to come back included: a handshake with a hung keyd fails
	// before the client's own patience ends (and before limits.connections.head), and does not pile up.
	answerWithin = 6 * time.Second
	// hungAfter is how long a keyd that was asked something may say nothing at all. A machine that strangers flood is slow:
	// at two seconds keyd was given up, and every new connection with it, while it was only waiting for a processor.
	hungAfter = 5 * time.Second
	// openWithin is how long Open waits for a keyd that starts at the same time.
	openWithin = 5 * time.Second
	// probeEvery is how often keyd is asked something, so that Ready knows of a hung one before a visitor does.
	probeEvery = 2 * time.Second
	// firstPause and lastPause bound the pause between attempts to reach or restart keyd. It doubles, and starts anew
	// after a connection that lasted steadyAfter.
	firstPause  = 20 * time.Millisecond
	lastPause   = time.Second
	steadyAfter = 5 * time.Second
)

// Errors that callers may ask for.
var (
	// ErrUnavailable means that keyd did not answer in time. It is safe to try again.
	ErrUnavailable = errors.New("the key process does not answer")
	// ErrRefused means that keyd answered no; the error's text says why. Trying again does not help.
	ErrRefused = errors.New("the key process refuses")
	// ErrLimited means that the key was asked more often than keyd's configuration lets it sign. Later it will.
	ErrLimited = errors.New("the key process signs no more of these now")
)

// Config says where keyd is: `keys` in the configuration.
type Config struct {
	// Socket is the path of keyd's Unix socket, such as /run/sallyport-keyd/keyd.sock. Required unless Spawn is set.
	Socket string `yaml:"socket" config:"path"`
	// UID is the user that keyd runs as. A socket on which anybody else but root listens is not spoken to. Default 0:
	// only root.
	UID int `yaml:"uid"`
	// Strict demands that keyd is a service of its own, under another user than the gateway's (root excepted, from whom
	// no user is safe). Default true.
	Strict bool `yaml:"strict" default:"true"`
	// Spawn makes the gateway start keyd as its child, for demos and development: same user, so its key files are
	// within the gateway's reach. Refused while Strict is true. Absent: keyd is a service of its own.
	Spawn *Spawn `yaml:"spawn"`
}

// Spawn says how to start keyd as a child.
type Spawn struct {
	// Binary is keyd's path. Default: keyd in the folder of the gateway's own binary.
	Binary string `yaml:"binary" config:"path"`
	// Config is the path of its keyd.yaml. Required.
	Config string `yaml:"config" config:"path"`
}

// Check tells whether the settings make sense together.
func (c Config) Check() error {
	switch {
	case c.Spawn != nil && c.Strict:
		return errors.New("strict: a key process that the gateway starts shares its user and thereby its files; " +
			"run keyd as a service, or set strict: false for development")
	case c.Spawn != nil && c.Socket != "":
		return errors.New("socket and spawn exclude each other")
	case c.Spawn != nil && c.Spawn.Config == "":
		return errors.New("spawn: config is missing")
	case c.Spawn == nil && c.Socket == "":
		return errors.New("socket is missing")
	case c.UID < 0:
		return errors.New("uid is negative")
	}
	return nil
}

// Client speaks to keyd. All methods may be called at once.
type Client struct {
	dial   dialer
	log    *slog.Logger
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu      sync.Mutex
	link    *link         // nil while keyd is away
	changed chan struct{} // closed, and replaced, whenever link changes
	keys    []Key         // as keyd told them last
	since   time.Time     // when keyd went away
	why     error         // and why it is still away

	listeners []func()
	news      chan struct{} // holds one when the list of keys has changed
}

// Open connects to keyd, waiting for it up to five seconds or until ctx ends, and keeps connected until Close. ctx does
// not matter after Open returned.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Client, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	dial, err := cfg.dialer()
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, openWithin)
	defer stop()
	c := &Client{dial: dial, log: log, changed: make(chan struct{}), news: make(chan struct{}, 1)}
	l, err := c.reach(ctx)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	keep, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	c.done.Go(func() { c.keep(keep, l) })
	c.done.Go(func() { c.tell(keep) })
	return c, nil
}

func (c Config) dialer() (dialer, error) {
	if c.Spawn == nil {
		return socketDialer{path: c.Socket, uid: c.UID, strict: c.Strict}, nil
	}
	binary := c.Spawn.Binary
	if binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		binary = filepath.Join(filepath.Dir(self), "keyd")
	}
	return childDialer{binary: binary, config: c.Spawn.Config}, nil
}

// Close ends the connection, and a keyd that is our child, and waits for both.
func (c *Client) Close() error {
	c.cancel()
	c.done.Wait()
	return nil
}

// Ready returns nil while keyd is connected, and otherwise since when it is not, and why.
func (c *Client) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == nil {
		return fmt.Errorf("%w since %s: %w", ErrUnavailable, c.since.UTC().Format(time.RFC3339), c.why)
	}
	return nil
}

// Status is what keyd says about itself.
type Status = wire.Status

// Status asks keyd about itself.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var st Status
	body, err := c.request(ctx, wire.OpStatus, nil)
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(body, &st); err != nil {
		return st, fmt.Errorf("reading keyd's status: %w", err)
	}
	return st, nil
}

// List asks keyd for its keys, in the order of its configuration.
func (c *Client) List(ctx context.Context) ([]Key, error) {
	body, err := c.request(ctx, wire.OpList, nil)
	if err != nil {
		return nil, err
	}
	return parseList(body)
}

// request asks keyd and waits for the answer, at most answerWithin. Every request is safe to repeat, so one whose
// connection breaks is sent again on the next.
func (c *Client) request(ctx context.Context, op wire.Op, body []byte) ([]byte, error) {
	ctx, stop := context.WithTimeout(ctx, answerWithin)
	defer stop()
	for {
		l, err := c.current(ctx)
		if err != nil {
			return nil, err
		}
		f, err := l.call(ctx, op, body)
		if errors.Is(err, errLost) && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrUnavailable, op, err)
		}
		switch code := wire.Code(f.Kind); code {
		case wire.OK:
		case wire.Conflict:
			return nil, asConflict(f.Body)
		case wire.Limited:
			return nil, fmt.Errorf("%w: %s: %q", ErrLimited, op, f.Body)
		default:
			return nil, fmt.Errorf("%w: %s: %s: %q", ErrRefused, op, code, f.Body)
		}
		return f.Body, nil
	}
}

// current returns the living connection, or waits for one.
func (c *Client) current(ctx context.Context) (*link, error) {
	for {
		c.mu.Lock()
		l, changed, why := c.link, c.changed, c.why
		c.mu.Unlock()
		if l != nil && l.alive() {
			return l, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errors.Join(ErrUnavailable, why, ctx.Err())
		}
	}
}

// reach tries to connect until it can, ctx ends or trying again is pointless.
func (c *Client) reach(ctx context.Context) (*link, error) {
	pause := firstPause
	var why error
	for {
		l, err := c.connect(ctx)
		if err == nil {
			return l, nil
		}
		if why == nil || ctx.Err() == nil { // an attempt that ran out of time says less than the one before
			why = err
		}
		c.set(nil, nil, why)
		if errors.Is(err, errStranger) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the key process cannot be reached: %w", why)
		case <-time.After(pause):
			pause = min(2*pause, lastPause)
		}
	}
}

// connect makes one attempt: connection, hello, and the list of keys as proof that keyd answers.
func (c *Client) connect(ctx context.Context) (*link, error) {
	ctx, stop := context.WithTimeout(ctx, answerWithin)
	defer stop()
	conn, release, err := c.dial.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := hello(conn); err != nil {
		return nil, errors.Join(err, conn.Close(), release())
	}
	l := newLink(conn, release)
	keys, err := l.list(ctx)
	if err != nil {
		l.fail(err)
		return nil, errors.Join(err, l.release())
	}
	c.set(l, keys, nil)
	return l, nil
}

func hello(conn net.Conn) error {
	conn.SetDeadline(time.Now().Add(answerWithin))
	defer conn.SetDeadline(time.Time{})
	return wire.Offer(conn)
}

// set publishes a change: a connection, or why there is none.
func (c *Client) set(l *link, keys []Key, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link != nil && l == nil || c.since.IsZero() {
		c.since = time.Now()
	}
	if l != nil {
		c.listedLocked(keys)
	}
	c.link, c.why = l, why
	close(c.changed)
	c.changed = make(chan struct{})
}

// keep watches over the connection and replaces it whenever it breaks, until ctx ends.
func (c *Client) keep(ctx context.Context, l *link) {
	pause := time.Duration(0)
	for {
		born := time.Now()
		l.watch(ctx, c.listed)
		c.set(nil, nil, l.cause())
		l.release()
		if ctx.Err() != nil {
			return
		}
		c.log.Error("key process lost", "error", l.cause())
		if time.Since(born) > steadyAfter {
			pause = 0
		}
		select { // a keyd that answers once and dies must not be restarted in a tight loop
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(max(2*pause, firstPause), lastPause)
		next, err := c.reachAgain(ctx)
		if err != nil {
			return
		}
		l = next
		c.log.Info("key process is back", "away", time.Since(c.awaySince()).Round(time.Millisecond))
	}
}

// reachAgain is reach without giving up on strangers: whoever took the socket's place may leave again.
func (c *Client) reachAgain(ctx context.Context) (*link, error) {
	for {
		l, err := c.reach(ctx)
		if err == nil || ctx.Err() != nil {
			return l, err
		}
		c.log.Error("key process not trusted", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(lastPause):
		}
	}
}

func (c *Client) awaySince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since
}
