package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// probeServer answers health checks and metrics on loopback. It changes nothing and tells nobody's name.
type probeServer struct {
	Options
	listener net.Listener
}

// openProbes binds the listener; without an address there is none.
func openProbes(address string, opts Options) (*probeServer, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	return &probeServer{Options: opts, listener: listener}, nil
}

func (s *probeServer) close() error {
	if s == nil {
		return nil
	}
	return s.listener.Close()
}

func (s *probeServer) run(ctx context.Context) error {
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: headTime,
		ReadTimeout:       headTime,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	return serveUntil(ctx, server, s.listener)
}

func (s *probeServer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	return loopbackHost(mux)
}

func (s *probeServer) ready(w http.ResponseWriter, r *http.Request) {
	status := s.Gateway.Status(r.Context())
	if !status.Ready {
		http.Error(w, "not ready: "+status.Why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// loopbackHost refuses requests that were addressed to a name: a web page whose name was made to lead to 127.0.0.1 would
// read the metrics with its visitor's browser (DNS rebinding).
func loopbackHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isNamed(r.Host) {
			http.Error(w, "misdirected request", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isNamed tells a request's host, with or without a port, that is anything else than this machine's own address.
func isNamed(authority string) bool {
	host, _, err := net.SplitHostPort(authority)
	if err != nil {
		host = authority
	}
	address, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !address.IsLoopback())
}

// serveUntil serves until ctx ends and then lets running calls finish, for a while.
func serveUntil(ctx context.Context, server *http.Server, listener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("admin: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		if err := server.Shutdown(drain); err != nil {
			return errors.Join(fmt.Errorf("admin: calls still running: %w", err), server.Close())
		}
		return nil
	})
	return group.Wait()
}
