package boot

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/gateway"
	"sallyport/gateway/config"
	"sallyport/gateway/listen"
)

const (
	// drainTime is how long requests under way may take to finish when the gateway stops; streams are ended at once.
	drainTime = 10 * time.Second
	// greetTime is how long a connection may take to its first request when the gateway stops: a client that said nothing
	// for so long is not asking.
	greetTime = time.Second
	// endTime is how long requests that were ended may take to be over.
	endTime = 5 * time.Second
)

// listeners are the two front doors: https, and optionally http, which only leads to it.
type listeners struct {
	secure, plain        net.Listener
	secureHTTP, redirect *http.Server
	server               *gateway.Server
	onHangup             func()
}

// listen opens the configured doors, with the sockets that a service manager kept for us where there are any.
func (a *assembly) listen(cfg *config.Config) (*listeners, error) {
	l := &listeners{secureHTTP: a.server.HTTPServer(), server: a.server,
		onHangup: func() { a.reload(a.ctx, change{why: "SIGHUP"}) }} // its failure is on record, in status and on stderr
	l.secureHTTP.TLSConfig = a.tlsConfig()
	inherited := a.inherited
	var err error
	if l.secure, err = a.open("listen", cfg.Listen, inherited.HTTPS, cfg.ProxyProtocol); err != nil {
		return nil, err
	}
	if cfg.ListenHTTP == "" && inherited.HTTP == nil {
		return l, nil
	}
	if l.plain, err = a.open("listen_http", cfg.ListenHTTP, inherited.HTTP, cfg.ProxyProtocol); err != nil {
		return nil, err
	}
	l.redirect = &http.Server{Handler: a.toHTTPS(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10, DisableGeneralOptionsHandler: true,
		ErrorLog: slog.NewLogLogger(a.opts.Log.Handler(), slog.LevelDebug)}
	return l, nil
}

// guardDoors gives each door room of its own: strangers who are led from http to https take nobody's there.
func (a *assembly) guardDoors(cfg *config.Config) {
	for _, key := range []string{"listen", "listen_http"} {
		a.doors[key] = listen.NewGuard(cfg.Limits.Connections, a.server.Dropped)
	}
}

// open makes one door, which closes with the gateway.
func (a *assembly) open(key, address string, inherited net.Listener, proxy listen.ProxyProtocol) (net.Listener, error) {
	l, err := listen.Listen(a.ctx, listen.Options{Key: key, Address: address, Inherited: inherited, Proxy: proxy, OnReject: a.server.Dropped})
	if err != nil {
		return nil, err
	}
	a.onClose(func() error { return ignoreClosed(l.Close()) })
	return a.doors[key].Watch(l), nil
}

// serve accepts until stop ends, and then drains: no new connections, streams ended, requests under way finished.
func (l *listeners) serve(background, stop context.Context, hangup <-chan os.Signal) error {
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return ignoreClosed(l.secureHTTP.ServeTLS(l.secure, "", "")) })
	if l.plain != nil {
		group.Go(func() error { return ignoreClosed(l.redirect.Serve(l.plain)) })
	}
	group.Go(func() error {
		for {
			select {
			case <-hangup:
				l.onHangup()
			case <-stop.Done():
				return l.drain()
			case <-ctx.Done(): // a part failed
				return errors.Join(context.Cause(ctx), l.drain())
			}
		}
	})
	return group.Wait()
}

// drain returns when no request is open any more, so that all outcomes reach the log before it closes.
func (l *listeners) drain() error {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	// Nobody new, and then an answer for whoever has just connected: net/http drops a first request that it reads while it
	// shuts down. What comes next waits in the backlog of a socket that was inherited.
	closed := ignoreClosed(l.secure.Close())
	greeting, done := context.WithTimeout(ctx, greetTime)
	l.server.AwaitFirstRequests(greeting)
	done()
	l.server.EndStreams()
	plain := closed
	if l.redirect != nil {
		plain = errors.Join(closed, l.redirect.Shutdown(ctx))
	}
	overdue := l.secureHTTP.Shutdown(ctx) != nil
	last, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	err := l.server.EndAll(last)
	if overdue {
		err = errors.Join(err, l.secureHTTP.Close())
	}
	return errors.Join(plain, err)
}

func (l *listeners) address() string { return l.secure.Addr().String() }

// toHTTPS leads plain-text requests for our hosts to https and answers nothing else, but for challenges of a certificate
// authority that are under way: no cookie is set or read here.
func (a *assembly) toHTTPS() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.answersChallenge(w, r) {
			return
		}
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		host = strings.ToLower(host)
		snapshot := a.server.Snapshot()
		known := host == snapshot.AuthHost || snapshot.Routes.HasHost(host)
		if !known || r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Connection", "close")
			http.Error(w, "This server speaks https only.", http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("Location", snapshot.Origin(host)+"/")
		if r.URL.Path != "" && r.URL.Host == "" {
			w.Header().Set("Location", snapshot.Origin(host)+r.URL.RequestURI())
		}
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

func ignoreClosed(err error) error {
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
