package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rogpeppe/go-internal/testscript"

	"sallyport/audit"
	"sallyport/authn"
	"sallyport/authn/session"
	"sallyport/gateway/admin"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"sallyport": main})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("TZ", "UTC")
			env.Setenv("SALLYPORT_CONFIG", filepath.Join(env.WorkDir, "sallyport.yaml"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"code":        exitsWith,
			"keypair":     keypair,
			"certificate": certificate,
			"records":     records,
			"gateway":     gateway,
			"hold":        hold,
		},
	})
}

// exitsWith is the command "code": code N PROGRAM ARGS runs the program and wants it to exit with N.
func exitsWith(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exited, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exited.ExitCode()
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("%v exits with %d, want %s", args[1:], code, args[0])
	}
}

// certificate FILE HOST writes a self-signed certificate for the host.
func certificate(ts *testscript.TestScript, neg bool, args []string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: args[1:], NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	file := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
	ts.Check(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
}

// records DIR FILE appends the records of a file, one JSON object a line, to the log that each names: the first at 08:00
// on 30 November 2026, each next one a minute later.
func records(ts *testscript.TestScript, neg bool, args []string) {
	now := time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)
	log, err := audit.Open(audit.Config{Dir: ts.MkAbs(args[0]), SegmentSize: 1 << 20},
		audit.Options{Now: func() time.Time { return now }, Log: slog.New(slog.DiscardHandler), Replica: "test"})
	ts.Check(err)
	defer func() { ts.Check(log.Close()) }()
	for line := range bytes.Lines([]byte(ts.ReadFile(args[1]))) {
		record := new(audit.Record)
		ts.Check(json.Unmarshal(line, record))
		into := log.Decisions()
		if record.Log == audit.ControlLog {
			into = log.Control()
		}
		_, err := into.Append(context.Background(), record)
		ts.Check(err)
		now = now.Add(time.Minute)
	}
}

// hold DIR is a gateway that holds the log and answers nobody.
func hold(ts *testscript.TestScript, neg bool, args []string) {
	log, err := audit.Open(audit.Config{Dir: ts.MkAbs(args[0]), SegmentSize: 1 << 20}, audit.Options{Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	ts.Defer(func() { ts.Check(log.Close()) })
}

// gateway SOCKET [WORD] is a gateway with two people signed in. It writes what it is asked to do to the file "done". With
// the word unready it is not ready, with broken its configuration cannot be loaded, with full its log takes no record.
func gateway(ts *testscript.TestScript, neg bool, args []string) {
	g := &scripted{word: append(args, "", "")[1], done: ts.MkAbs("done")}
	server, err := admin.Open(admin.Config{Socket: ts.MkAbs(args[0])},
		admin.Options{Gateway: g, Sessions: g, People: g, Tokens: scriptedTokens{g}, Control: g, Policies: g, Shadowing: g, Renewing: g, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler)})
	ts.Check(err)
	ctx, stop := context.WithCancel(context.Background())
	stopped := make(chan error, 1)
	go func() { stopped <- server.Run(ctx) }()
	ts.Defer(func() {
		stop()
		ts.Check(<-stopped)
	})
}

// scripted is a gateway for scripts.
type scripted struct{ word, done string }

func (g *scripted) did(what string) error {
	f, err := os.OpenFile(g.done, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, what)
	return errors.Join(err, f.Close())
}

func (g *scripted) Status(context.Context) admin.Status {
	s := admin.Status{
		Version: "1.2.3", Started: time.Now().Add(-90 * time.Minute), Ready: true,
		Config:  admin.ConfigStatus{Path: "/etc/sallyport/sallyport.yaml", Digest: "sha256:c0ffee", Loaded: time.Date(2026, 11, 30, 8, 0, 0, 0, time.UTC)},
		Policy:  admin.PolicyStatus{Digest: "sha256:cafe", Revision: "r7"},
		Keys:    admin.KeyStatus{Mode: "socket", Ready: true},
		Audit:   admin.AuditStatus{Healthy: true, Decisions: 12, Control: 3, SignedDecisions: 12, SignedControl: 2},
		Session: admin.SessionStatus{Active: 2},
		Cache:   admin.CacheStatus{Enabled: true, Entries: 40, Bytes: 3 << 19, Hits: 300, Misses: 20},
		Spool:   admin.SpoolStatus{Bodies: 3, Memory: 768 << 10, Disk: 12 << 20, Stalled: 1},
		Certificates: []admin.Certificate{
			{File: "wiki.pem", Names: []string{"wiki.corp.example"}, NotAfter: time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), Key: "wiki", DaysLeft: -2524, State: "expired"},
			{File: "pay.pem", Names: []string{"pay.corp.example"}, NotAfter: time.Date(2100, 1, 2, 3, 4, 5, 0, time.UTC), Key: "pay", DaysLeft: 12, State: "expires_soon"},
		},
		Providers: []admin.Provider{{Name: "corp", Why: "connection refused since 08:00"}},
		Upstreams: []admin.Upstream{{App: "wiki", ID: "a1b2c3d4", URL: "http://10.0.0.5:8080", Serving: true, State: "healthy", Weight: 1, Open: 1, Requests: 20, Failures: 2, Latency: 0.0123}},
	}
	if g.word == "unready" {
		s.Ready, s.Why = false, "the key process is away"
		s.Config.Error, s.Config.Failed = "a.yaml:1:1: one\na.yaml:2:1: two", s.Config.Loaded
	}
	return s
}

func (g *scripted) Reload(context.Context, *audit.Actor) error {
	if g.word == "broken" {
		return errors.New("sallyport.yaml:3:1: lisen: unknown key; did you mean \"listen\"?")
	}
	return g.did("reload")
}

func (g *scripted) Backup(context.Context) (*os.File, error) {
	f, err := os.CreateTemp("", "backup")
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(f, "the state\n")
	_, seekErr := f.Seek(0, io.SeekStart)
	return f, errors.Join(err, seekErr, os.Remove(f.Name()))
}

func (g *scripted) Purge(_ context.Context, what admin.Purge) (admin.Purged, error) {
	switch {
	case what.App == "gone":
		return admin.Purged{}, fmt.Errorf("%w app %q", admin.ErrUnknown, what.App)
	case what.App == "empty":
		return admin.Purged{}, nil
	}
	return admin.Purged{Entries: 3, Bytes: 4096}, g.did(fmt.Sprintf("purge %+v", what))
}

func (g *scripted) Upstreams() []admin.Upstream { return g.Status(context.Background()).Upstreams }

func (g *scripted) Drain(_ context.Context, what admin.Drain) error {
	if what.Address != "http://10.0.0.5:8080" {
		return fmt.Errorf("%w address %q of app %s", admin.ErrUnknown, what.Address, what.App)
	}
	return g.did(fmt.Sprintf("drain %+v", what))
}

func (g *scripted) Renewals() []admin.Renewal {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	return []admin.Renewal{
		{Host: "auth.corp.example", Key: "auth", NotAfter: at, RenewAt: at, NextAt: at, Advised: true},
		{Host: "wiki.corp.example", Key: "wiki", Failures: 2, Failed: at, NextAt: at, Reason: "dns", Error: "no such \x1b[31mname", UnderWay: true},
	}
}

func (g *scripted) RenewCertificate(_ context.Context, what admin.Renew) error {
	if what.Host != "wiki.corp.example" {
		return fmt.Errorf("%w host %q", admin.ErrUnknown, what.Host)
	}
	return g.did(fmt.Sprintf("renew %+v", what))
}

func (g *scripted) RevokeCertificate(_ context.Context, what admin.Revocation) error {
	return g.did(fmt.Sprintf("revoke %+v", what))
}

func (g *scripted) AppHosts() map[string]string {
	return map[string]string{"wiki": "wiki.corp.example", "pay": "pay.corp.example"}
}

func (g *scripted) List(_ context.Context, f session.Filter) ([]session.Session, error) {
	all := []session.Session{
		{ID: "s1", Identity: &authn.Identity{Provider: "corp", Subject: "1", Email: "ada@corp.example"}, Created: time.Now().Add(-3 * time.Hour),
			Seen: time.Now(), Checked: time.Now().Add(-10 * time.Minute), Address: "10.1.2.3", UserAgent: "Firefox \x1b[31m\u202e",
			Hosts: []string{"gone.corp.example", "wiki.corp.example"}, ProviderSession: "sid-1", Refreshable: true},
		{ID: "s2", Identity: &authn.Identity{Provider: "corp", Subject: "2"}, Created: time.Now().Add(-70 * time.Hour), Seen: time.Now().Add(-5 * time.Minute),
			UserAgent: "Mozilla/5.0", Bound: session.Bound{UserAgent: "Safari on iOS"}},
	}
	var found []session.Session
	for _, s := range all {
		if (f.Email == "" || f.Email == s.Identity.Email) && (f.Subject == "" || f.Subject == s.Identity.ID()) && (f.ID == "" || f.ID == s.ID) &&
			(f.Host == "" || slices.Contains(s.Hosts, f.Host)) && (f.Provider == "" || f.Provider == s.Identity.Provider) &&
			(f.ProviderSession == "" || f.ProviderSession == s.ProviderSession) &&
			time.Since(s.Created) >= f.OlderThan && time.Since(s.Seen) >= f.IdleFor {
			found = append(found, s)
		}
	}
	return found, nil
}

func (g *scripted) Revoke(ctx context.Context, f session.Filter) ([]session.Session, error) {
	if f == (session.Filter{}) {
		return nil, session.ErrEmptyFilter
	}
	if err := g.did(fmt.Sprintf("revoke %+v", f)); err != nil {
		return nil, err
	}
	ended, err := g.List(ctx, f)
	for i := range ended {
		ended[i].Hosts = nil
	}
	return ended, err
}

func (g *scripted) Append(_ context.Context, r *audit.Record) (audit.Receipt, error) {
	if g.word == "full" {
		return audit.Receipt{}, errors.New("no space left on device")
	}
	return audit.Receipt{}, g.did("record " + r.Code + " " + string(r.Detail))
}
