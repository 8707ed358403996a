package acme

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

const (
	// hookPath is all the environment that the program for DNS has.
	hookPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// maxOutput bounds what is kept of the program's output, in bytes.
	maxOutput = 2 << 10
	// hookGrace is how long the program's children may hold its output after its end.
	hookGrace = 2 * time.Second
	// lookEvery is how often resolvers are asked for a record.
	lookEvery = time.Second
)

// errHook is the failure of the operator's program.
var errHook = errors.New("the program for DNS failed")

// presentDNS makes a TXT record and waits until it is seen.
func (r *Renewer) presentDNS(ctx context.Context, name, value string) (cleanup func() error, err error) {
	cleanup = func() error {
		// What has been made is taken back even when time is up.
		return r.hook(context.WithoutCancel(ctx), "cleanup", name, value)
	}
	if err := r.hook(ctx, "present", name, value); err != nil {
		return nil, errors.Join(err, cleanup()) // it may have come half the way
	}
	if err := r.propagated(ctx, name, value); err != nil {
		return nil, errors.Join(err, cleanup())
	}
	return cleanup, nil
}

// hook runs the operator's program.
func (r *Renewer) hook(ctx context.Context, args ...string) error {
	dns := r.cfg.DNS
	ctx, cancel := context.WithTimeout(ctx, dns.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, dns.Command[0], slices.Concat(dns.Command[1:], args)...)
	cmd.Env, cmd.Dir = []string{hookPath}, "/"
	// A group of its own, so that its children end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = hookGrace
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("it took longer than %s", dns.Timeout)
	}
	if err != nil {
		return fmt.Errorf("%w: %s %s: %w: %q", errHook, dns.Command[0], args[0], err, out.text)
	}
	return nil
}

// tail keeps the last bytes written to it.
type tail struct{ text []byte }

func (t *tail) Write(b []byte) (int, error) {
	t.text = append(t.text, b...)
	if over := len(t.text) - maxOutput; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

// propagated waits until every resolver knows the record.
func (r *Renewer) propagated(ctx context.Context, name, value string) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.DNS.Propagation)
	defer cancel()
	for _, address := range r.cfg.DNS.Resolvers {
		if err := seenBy(ctx, address, name, value); err != nil {
			return err
		}
	}
	return nil
}

func seenBy(ctx context.Context, address, name, value string) error {
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	again := time.NewTicker(lookEvery)
	defer again.Stop()
	for {
		values, err := resolver.LookupTXT(ctx, name+".")
		if slices.Contains(values, value) {
			return nil
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %s did not appear at %s (last answer: %d records, %w)", errHook, name, address, len(values), errors.Join(ctx.Err(), err))
		}
	}
}
