package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/cmd/demo/apps"
	"sallyport/cmd/demo/provider"
)

const (
	domain   = "sallyport.localhost" // RFC 6761 §6.3: never leaves this machine
	clientID = "sallyport"
	// startTime is how long the gateway may take until it answers.
	startTime = 30 * time.Second
	// stopTime is how long a program may take to stop before it is killed.
	stopTime = 15 * time.Second
)

// demo is one run, from start to Ctrl-C.
type demo struct {
	opts        options
	out, errOut io.Writer

	programs programs
	listen   string // of the gateway, with its real port
	folder   *folder
	issuer   string // of the identity provider
	places   []place
}

// place is an app with the address it really has.
type place struct {
	app
	Upstream string
}

// run starts everything, waits for ctx or a failure, and stops in reverse: first the gateway, then what is behind it.
func (d *demo) run(ctx context.Context) (err error) {
	if d.programs, err = findPrograms(); err != nil {
		return err
	}
	if d.listen, err = freeAddress(d.opts.Listen); err != nil {
		return err
	}
	if d.folder, err = openFolder(d.opts.Dir); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.folder.close()) }()
	login, err := net.Listen("tcp", d.folder.providerAddress())
	if err != nil {
		return fmt.Errorf("the identity provider of this folder: %w", err)
	}
	_, port, _ := net.SplitHostPort(login.Addr().String())
	d.issuer = "http://localhost:" + port
	if err := d.folder.makeKeys(ctx, d); err != nil {
		return errors.Join(err, login.Close())
	}

	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	servers, serving := errgroup.WithContext(serving)
	defer func() {
		stopServing()
		err = errors.Join(err, servers.Wait())
	}()
	client, err := d.client()
	if err != nil {
		return errors.Join(err, login.Close())
	}
	if err := d.startProvider(serving, servers, login, client); err != nil {
		return err
	}
	if err := d.startApps(serving, servers, client); err != nil {
		return err
	}
	if err := d.folder.configure(d); err != nil {
		return err
	}
	return d.runGateway(ctx, serving, client)
}

// startProvider runs the identity provider on listener. It reaches the gateway by client.
func (d *demo) startProvider(ctx context.Context, servers *errgroup.Group, listener net.Listener, client *http.Client) error {
	keys, err := os.ReadFile(d.folder.clientKeys())
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	handler, err := provider.New(provider.Options{Issuer: d.issuer, ClientID: clientID, ClientKeys: keys,
		RedirectURL: d.origin("auth") + "/.sallyport/callback/demo", SignedOut: d.origin("auth") + "/.sallyport/signedout",
		BackChannelURL: d.origin("auth") + "/.sallyport/backchannel/demo", BackChannel: client, Title: "Harbour ID", People: people()})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	serve(ctx, servers, listener, handler)
	return nil
}

// startApps runs every app on a port of its own.
func (d *demo) startApps(ctx context.Context, servers *errgroup.Group, client *http.Client) error {
	for _, a := range appList() {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		gate := apps.NewGatekeeper(client, d.origin("auth"), d.origin(a.Name))
		serve(ctx, servers, listener, a.handler(gate))
		d.places = append(d.places, place{app: a, Upstream: "http://" + listener.Addr().String()})
	}
	return nil
}

// serve answers on listener until ctx ends; requests still open then are told so by their own context.
func serve(ctx context.Context, servers *errgroup.Group, listener net.Listener, handler http.Handler) {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	servers.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	servers.Go(func() error {
		<-ctx.Done()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
		defer cancel()
		if server.Shutdown(patience) != nil {
			server.Close() // a browser that holds on to its connection
		}
		return nil
	})
}

// runGateway starts the gateway, says how to use it, and returns when it has stopped.
func (d *demo) runGateway(ctx, serving context.Context, client *http.Client) error {
	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	gateway := newChild("gateway", d.errOut, d.programs.sallyport, "--config", d.folder.path("sallyport.yaml"), "run")
	ended := make(chan error, 1)
	go func() { ended <- gateway.run(running) }()

	ready := make(chan error, 1)
	patience, cancel := context.WithTimeout(running, startTime)
	defer cancel()
	go func() { ready <- d.answers(patience, client) }()
	for {
		select {
		case err := <-ready:
			if err == nil {
				d.welcome()
				ready = nil
				continue
			}
			stop(nil)
			died := <-ended
			if ctx.Err() != nil {
				return nil
			}
			return errors.Join(died, err)
		case <-serving.Done(): // an app or the provider failed; its error is on its way
			stop(nil)
			return <-ended
		case err := <-ended:
			stop(nil)
			return err
		}
	}
}

// origin is https://NAME.sallyport.localhost:PORT.
func (d *demo) origin(name string) string {
	_, port, _ := net.SplitHostPort(d.listen)
	if port == "443" {
		return "https://" + name + "." + domain
	}
	return "https://" + name + "." + domain + ":" + port
}

// programs are the binaries beside the demo's own.
type programs struct{ sallyport, keyd string }

func findPrograms() (programs, error) {
	self, err := os.Executable()
	if err != nil {
		return programs{}, err
	}
	folder := filepath.Dir(self)
	p := programs{filepath.Join(folder, "sallyport"), filepath.Join(folder, "keyd")}
	for _, name := range []string{p.sallyport, p.keyd} {
		if _, err := exec.LookPath(name); err != nil {
			return p, fmt.Errorf("%s is missing: make build puts all programs into one folder", name)
		}
	}
	return p, nil
}

// freeAddress checks that address is on loopback and nobody listens there, and fills in port 0.
func freeAddress(address string) (string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("--listen %s: want an address and a port, such as 127.0.0.1:8443", address)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("--listen %s: want a loopback address, such as 127.0.0.1: the passwords of this demo are public", address)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("%s cannot be used (%w): stop what listens there, or choose another port with --listen %s", address, errors.Unwrap(err), net.JoinHostPort(host, "0"))
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}
