// Package admin is the operator's surface of a running gateway: HTTP and JSON on a Unix socket for the command line, and
// a read-only TCP listener on loopback for health checks and metrics.
//
// On the socket the kernel says who is calling. Root, the gateway's own account and the members of one group may; that
// account is the actor of every control record, and a call that changes something, or reads the log, is on record before
// it takes effect. Client is the other end.
//
// The package decides nothing about the gateway itself: it calls what Options hands it.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"sallyport/audit"
	"sallyport/authn/session"
)

// Config says where operators reach the gateway.
type Config struct {
	// Socket is the Unix socket on which the command line reaches the running gateway. Its folder must be writable by
	// the gateway's account alone. Default /run/sallyport/admin.sock.
	Socket string `yaml:"socket" default:"/run/sallyport/admin.sock" config:"path"`
	// Group is the operating system group, by name or number, whose members may operate the gateway besides root and
	// the gateway's own account. That account must be a member too, to hand the socket to it. Default: none.
	Group string `yaml:"group"`
	// DiscloseGroup is the operating system group whose members may have exports, reports and evidence bundles with e-mail
	// and IP addresses, user agents and queries as they are, besides root and the gateway's own account. They must be
	// allowed to operate the gateway too. Default: none.
	DiscloseGroup string `yaml:"disclose_group"`
	// Listen is a loopback address and port, such as 127.0.0.1:9901, for GET /healthz, /readyz and /metrics and nothing
	// else. Default: no listener.
	Listen string `yaml:"listen"`
}

// Check refuses an address that other machines could reach.
func (c *Config) Check() error {
	if c.Listen == "" {
		return nil
	}
	address, err := netip.ParseAddrPort(c.Listen)
	if err != nil || !address.Addr().IsLoopback() {
		return &fieldError{"listen", fmt.Errorf("%q must be a loopback address and port, such as 127.0.0.1:9901", c.Listen)}
	}
	return nil
}

// fieldError says which field of the configuration it is about.
type fieldError struct {
	field string
	error
}

func (e *fieldError) Field() string { return e.field }

// Gateway is what the surface shows and operates. All methods may run at once, and at any time until Run has returned.
type Gateway interface {
	// Status describes the gateway as it is now. It does not wait for anything.
	Status(ctx context.Context) Status
	// Reload reads the configuration again and puts it into effect as a whole, or returns why it did not; the one in
	// effect then stays. The text of the error is for the operator and may have several lines.
	Reload(ctx context.Context, by *audit.Actor) error
	// Backup returns an open file with a consistent copy of the state, readable from its start. The caller closes it;
	// nothing is left behind then.
	Backup(ctx context.Context) (*os.File, error)
	// Purge drops stored answers before it returns; an app it does not have is ErrUnknown.
	Purge(ctx context.Context, what Purge) (Purged, error)
	// AppHosts are the hosts of all apps, by the apps' names.
	AppHosts() map[string]string
	// Upstreams lists every address of every app, in configuration order.
	Upstreams() []Upstream
	// Drain takes an address out of service or puts it back, until the gateway restarts; one that is not there is
	// ErrUnknown.
	Drain(ctx context.Context, what Drain) error
}

// Sessions lists and ends sign-in sessions; session.Keeper is one.
type Sessions interface {
	List(ctx context.Context, f session.Filter) ([]session.Session, error)
	// Revoke ends the sessions durably before it returns them.
	Revoke(ctx context.Context, f session.Filter) ([]session.Session, error)
}

// Control is the log of what operators do; the control log of package audit is one. Append returns once the record is
// durable.
type Control interface {
	Append(ctx context.Context, r *audit.Record) (audit.Receipt, error)
}

// Options are what the surface needs. All are required.
type Options struct {
	Gateway   Gateway
	Sessions  Sessions
	People    People
	Tokens    Tokens
	Control   Control
	Auditing  Auditing
	Policies  Policies
	Shadowing Shadowing
	Renewing  Renewing
	Metrics   prometheus.Gatherer
	Log       *slog.Logger
}

// Server is the surface of one gateway.
type Server struct {
	operator *operatorServer
	probes   *probeServer // nil without a listener
}

// Open binds the socket and the listener. Nothing is answered before Run.
func Open(cfg Config, opts Options) (*Server, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	group, err := lookupGroup("group", cfg.Group)
	if err != nil {
		return nil, err
	}
	disclose, err := lookupGroup("disclose_group", cfg.DiscloseGroup)
	if err != nil {
		return nil, err
	}
	probes, err := openProbes(cfg.Listen, opts)
	if err != nil {
		return nil, err
	}
	operator, err := openOperator(cfg.Socket, group, disclose, opts)
	if err != nil {
		return nil, errors.Join(err, probes.close())
	}
	return &Server{operator: operator, probes: probes}, nil
}

// Run serves until ctx ends, lets running calls finish, and removes the socket.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.operator.run(ctx) })
	if s.probes != nil {
		group.Go(func() error { return s.probes.run(ctx) })
	}
	return group.Wait()
}

// Close releases what Open bound, when Run is not going to be called.
func (s *Server) Close() error { return errors.Join(s.operator.close(), s.probes.close()) }
