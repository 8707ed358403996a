package keyd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"sallyport/certs/internal/wire"
)

// RunOptions are the command line of `keyd run`.
type RunOptions struct {
	// Config is the path of keyd.yaml.
	Config string
	// FD is the descriptor of a connection to serve instead of listening: child mode, in which whoever holds the other
	// end may sign. keyd exits when that end closes. Zero listens on the configured socket.
	FD int
	// Credentials is systemd's folder of credentials, which its $CREDENTIALS_DIRECTORY names: what runs has no environment.
	// It must be on the command line. Default: none.
	Credentials string
	// Log receives changes of state and refusals.
	Log *slog.Logger
}

// Run is the key process, until ctx ends or, as a child, until its parent is gone. It executes the program anew first
// (see seal), so call it before doing anything that must not happen twice.
func Run(ctx context.Context, o RunOptions) error {
	if o.FD < 0 || o.FD == 1 || o.FD == 2 {
		return fmt.Errorf("descriptor %d cannot be a connection", o.FD)
	}
	if err := seal(o.FD); err != nil {
		return err
	}
	box, c, err := enter(o)
	if err != nil {
		return err
	}
	locked, err := lock(c.StateDir)
	if err != nil {
		return err
	}
	defer locked.Close()
	stores, err := openBackends(c)
	if err != nil {
		return err
	}
	defer stores.close()
	d, err := o.door(c)
	if err != nil {
		return err
	}
	defer d.close()
	// What takes a socket, or a file from outside, is above this line; what reads a key is below it.
	if err := box.confine(c.territory(o.Config, d != nil)); err != nil {
		return err
	}
	if err := box.demand(c.Strict, o.Log); err != nil {
		return fmt.Errorf("%s: %w", o.Config, err)
	}
	state, err := openState(c.StateDir)
	if err != nil {
		return err
	}
	defer state.Close()
	keys, err := openSlots(c, stores, state, time.Now, nil)
	if err != nil {
		return err
	}
	if o.FD != 0 {
		return runChild(ctx, o, keys, box.facts)
	}
	return runListener(ctx, o, c, d, keys, box.facts)
}

// enter reads the configuration and closes the process to its neighbours, as the user that it names.
func enter(o RunOptions) (*sandbox, *Config, error) {
	box, err := newSandbox(o.FD)
	if err != nil {
		return nil, nil, err
	}
	c, err := LoadConfig(o.Config)
	if err != nil {
		return nil, nil, err
	}
	c.credentials = o.Credentials
	if err := become(c); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.Config, err)
	}
	return box, c, box.hide()
}

// door is the socket that a child does not have.
func (o RunOptions) door(c *Config) (*door, error) {
	if o.FD != 0 {
		return nil, nil
	}
	if c.Listen == "" || len(c.AllowUIDs) == 0 {
		return nil, errors.New(o.Config + ": listen and allow_uids are needed to serve a socket")
	}
	return claim(c.Listen)
}

func runListener(ctx context.Context, o RunOptions, c *Config, d *door, keys *slots, facts func() []wire.Fact) error {
	s, err := newServer(keys, "socket", facts, o.Log)
	if err != nil {
		return err
	}
	l, err := d.open()
	if err != nil {
		return err
	}
	defer s.tend(ctx, o.Config)()
	s.ready(c.Listen)
	return s.serve(ctx, l, c.AllowUIDs)
}

func runChild(ctx context.Context, o RunOptions, keys *slots, facts func() []wire.Fact) error {
	s, err := newServer(keys, "child", facts, o.Log)
	if err != nil {
		return err
	}
	conn, err := inherit(o.FD)
	if err != nil {
		return err
	}
	defer s.tend(ctx, o.Config)()
	s.ready("")
	return s.serveConn(ctx, conn, peer{uid: os.Geteuid(), pid: os.Getppid(), maySign: true})
}

// ready says what runs.
func (s *server) ready(socket string) {
	s.log.Info("keyd is ready", "mode", s.mode, "socket", socket, "keys", len(s.keys.Load().keys), "pid", os.Getpid(), "uid", os.Geteuid())
	for _, k := range s.keys.Load().keys {
		for _, l := range k.logs {
			if state, err := l.position(); err != nil {
				s.log.Error("a log cannot be signed", "origin", l.base, "error", err)
			} else {
				s.log.Info("a log is signed", "origin", l.base, "epoch", state.epoch, "last", state.String())
			}
		}
	}
}
