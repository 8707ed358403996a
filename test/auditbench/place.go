package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"sallyport/audit"
	"sallyport/audit/tree"
	"sallyport/certs/keyd"
	"sallyport/certs/keyring"
	"sallyport/policy"
)

const domain = "bench.example"

// place is an installation without its gateway: the audit directory, the key process, and a policy.
type place struct {
	dir, config, trust string
	keys               *keyring.Client
	bundle             *policy.Bundle
	engine             *policy.Engine
	people             []policy.Subject
	apps               []policy.App
}

func (p *place) audit() string { return filepath.Join(p.dir, "audit") }

func newPlace(ctx context.Context, dir string) (*place, error) {
	p := &place{dir: dir, config: filepath.Join(dir, "sallyport.yaml")}
	made, err := keyd.Init(keyd.InitOptions{Dir: filepath.Join(dir, "keys"), Domain: domain, Port: 443, Lenient: true, Hosts: []string{"auth." + domain}})
	if err != nil {
		return nil, err
	}
	p.trust = made.Trust
	binary, err := program("keyd")
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf(`
domain: %s
admin: { socket: %[2]s/admin.sock }
tls: { certificates: "%[2]s/keys/public/certs/*.pem" }
audit: { dir: %[2]s/audit }
keys: { strict: false, spawn: { binary: %[3]s, config: %[4]s } }
state: { sqlite: %[2]s/state.db }
`, domain, dir, binary, made.Config)
	if err := os.WriteFile(p.config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	return p, p.makePolicy(ctx)
}

// makePolicy has 20 apps, each for some of 60 groups, and 1,000 people in 40 groups each.
func (p *place) makePolicy(ctx context.Context) (err error) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		rule := policy.Rule{Groups: []string{group(3 * i), group(3*i + 1)}}
		p.apps = append(p.apps, policy.App{Name: fmt.Sprintf("app-%02d", i), Owner: group(i), Access: policy.Access{rule}})
	}
	if p.bundle, err = policy.Build(policy.Config{Timezone: "UTC", Deadline: policy.DefaultDeadline, Memo: true}, p.apps, policy.Reauthorize); err != nil {
		return err
	}
	if p.engine, err = policy.Compile(ctx, p.bundle); err != nil {
		return err
	}
	for i := range 1000 {
		var groups []string
		for _, g := range rnd.Perm(60)[:40] {
			groups = append(groups, group(g))
		}
		subject := policy.Subject{Type: policy.TypeUser, ID: fmt.Sprintf("corp|00u%017d", i), Email: fmt.Sprintf("person.%04d@%s", i, domain), EmailVerified: true,
			Authn: &policy.Authn{Provider: "corp", ACR: "urn:mfa", AMR: []string{"pwd", "otp"}, MFA: true}}
		slices.Sort(groups)
		subject.Groups = groups
		p.people = append(p.people, subject.Prepared())
	}
	return nil
}

func group(i int) string { return fmt.Sprintf("team-%02d@%s", i, domain) }

// decision is what the gateway would record of somebody's request.
func (p *place) decision(ctx context.Context, rnd *rand.Rand) *audit.Record {
	app := p.apps[rnd.IntN(len(p.apps))]
	page := fmt.Sprintf("/pages/2026/plan-%d", rnd.IntN(500))
	in := &policy.Input{Subject: p.people[rnd.IntN(len(p.people))],
		Action:   policy.Action{Name: policy.ActionRead, Method: "GET", Protocol: "HTTP/2.0"},
		Resource: policy.Resource{Type: policy.TypeApp, ID: app.Name, Owner: app.Owner, Host: app.Name + "." + domain, Path: page, Segments: strings.Split(page[1:], "/"), Query: "v=7"},
		Context: policy.Context{Client: policy.Client{IP: fmt.Sprintf("192.0.2.%d", rnd.IntN(255))},
			Request: policy.Request{ID: fmt.Sprintf("%016x%016x", rnd.Uint64(), rnd.Uint64()), UserAgent: strings.Repeat("Mozilla/5.0 ", 9)}},
	}
	in.Context.SetTime(time.Now(), time.UTC)
	verdict := p.engine.Decide(ctx, in)
	r := &audit.Record{Type: audit.TypeDecision, RequestID: in.Context.Request.ID, Session: in.Subject.ID[5:], App: app.Name, Effect: audit.Deny, Reason: verdict.Reason,
		Document: in, Policy: audit.Policy{Digest: p.engine.Digest(), Revision: p.engine.Revision()}, Decision: verdict.JSON, Memo: verdict.Memo}
	if verdict.Allow {
		r.Effect = audit.Allow
	}
	return r
}

// open opens the log with all that goes on behind it; close ends it as a gateway does.
func (p *place) open(ctx context.Context) (a *audit.Audit, close func() error, err error) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	a, err = audit.Open(audit.Config{Dir: p.audit(), Origin: domain + "/audit"}, audit.Options{Log: log, Replica: "bench"})
	if err != nil {
		return nil, nil, err
	}
	if err := a.KeepPolicy(p.bundle.Digest, p.bundle.Archive()); err != nil {
		return nil, nil, err
	}
	binary, err := program("keyd")
	if err != nil {
		return nil, nil, err
	}
	if p.keys, err = keyring.Open(ctx, keyring.Config{Spawn: &keyring.Spawn{Binary: binary, Config: filepath.Join(p.dir, "keys", "keyd.yaml")}}, log); err != nil {
		return nil, nil, err
	}
	signer := signer{p.keys}
	if err := a.Attach(ctx, signer); err != nil {
		return nil, nil, err
	}
	if _, err := a.Control().Append(ctx, &audit.Record{Type: audit.TypeControl, Code: "started", Actor: &audit.Actor{Kind: "gateway", ID: "bench"}}); err != nil {
		return nil, nil, err
	}
	keeping, stop := context.WithCancel(ctx)
	var group errgroup.Group
	group.Go(func() error { return a.Keep(keeping, audit.Keeping{Signer: signer}) })
	return a, func() error {
		stop()
		if err := group.Wait(); err != nil {
			return err
		}
		if err := a.Close(); err != nil {
			return err
		}
		return p.keys.Close()
	}, nil
}

// signer asks the key process.
type signer struct{ keys *keyring.Client }

func (s signer) Position(ctx context.Context, log string) (tree.Checkpoint, error) {
	at, err := s.keys.CheckpointPosition(ctx, domain+"/audit/"+log)
	return tree.Checkpoint{Origin: at.Origin, Size: at.Size, Root: tree.Hash(at.Root)}, err
}

func (s signer) Sign(ctx context.Context, _ string, next tree.Checkpoint, old uint64, proof []tree.Hash) ([]byte, error) {
	hashes := make([][32]byte, len(proof))
	for i, h := range proof {
		hashes[i] = h
	}
	return s.keys.SignCheckpoint(ctx, next.Body(), old, hashes)
}

// fill makes the decision log that long.
func (p *place) fill(ctx context.Context, records int) error {
	a, close, err := p.open(ctx)
	if err != nil {
		return err
	}
	have := int(a.Decisions().Records())
	var wg sync.WaitGroup
	errs := make(chan error, 256)
	for w := range 256 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(3, uint64(have+w)))
			for n := have + w; n < records; n += 256 {
				if _, err := a.Decisions().Append(ctx, p.decision(ctx, rnd)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return close()
	}
}
