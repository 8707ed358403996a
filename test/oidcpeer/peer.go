// Package oidcpeer runs npm's oidc-provider, which is certified, as a peer in a process of its own (provider.mjs). Its tests
// hold Sallyport's sign-in against it, and against zitadel's provider in this process; the tests of whole installations
// and of browsers start it too.
package oidcpeer

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Options say what the provider is like; provider.mjs reads them.
type Options struct {
	Port        int               `json:"port"` // 0: a free one
	RedirectURI string            `json:"redirect_uri,omitempty"`
	ClientKey   map[string]string `json:"client_key,omitempty"`
	// ClaimsInIDToken puts claims where most providers do; without, they are in userinfo only.
	ClaimsInIDToken bool `json:"claims_in_id_token"`
	// Clients make it a company's provider.
	Clients []Client          `json:"clients,omitempty"`
	People  map[string]Person `json:"people,omitempty"`
	CA      string            `json:"ca,omitempty"` // PEM: who vouches for the clients' logout addresses
}

// Client is one client of a company's provider, with a secret that is sent by Basic.
type Client struct {
	ID               string   `json:"client_id"`
	Secret           string   `json:"client_secret"`
	RedirectURIs     []string `json:"redirect_uris"`
	AfterLogout      []string `json:"post_logout_redirect_uris,omitempty"`
	BackChannel      string   `json:"backchannel_logout_uri,omitempty"`
	BackChannelBySID bool     `json:"backchannel_logout_session_required,omitempty"` // and sid in ID tokens
}

// Person is an account's claims.
type Person struct {
	Email         string   `json:"email"`
	EmailVerified bool     `json:"email_verified"`
	Name          string   `json:"name"`
	Groups        []string `json:"groups"`
}

// Session is one sign-in as the provider remembers it.
type Session struct {
	Subject string            `json:"sub"`
	Client  string            `json:"client"`
	SID     string            `json:"sid"`
	Params  map[string]string `json:"params"` // of the authorization request
}

// Peer is a running provider.
type Peer struct {
	Issuer string `json:"issuer"`

	cmd    *exec.Cmd
	stderr *strings.Builder

	mu     sync.Mutex // one command at a time
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// Start runs a provider until the test ends.
func Start(t testing.TB, o Options) *Peer {
	t.Helper()
	const advice = "run `make test`, which installs what the tests need"
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("node is not installed: %s", advice)
	}
	dir := folder(t)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider")); err != nil {
		t.Fatalf("oidc-provider is not installed: %s", advice)
	}
	p := &Peer{cmd: exec.Command(node, "provider.mjs"), stderr: new(strings.Builder)}
	p.cmd.Dir, p.cmd.Stderr = dir, p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	if err := p.exchange(o, p); err != nil {
		p.Stop()
		t.Fatalf("starting oidc-provider: %v\n%s", err, p.stderr)
	}
	return p
}

// folder is where provider.mjs is: tests run in the folder of their package, which is this one or a neighbour.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; filepath.Dir(dir) != dir; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(dir, "test", "oidcpeer")
		}
	}
	t.Fatal("the module's folder is not above this one")
	return ""
}

// exchange sends one line and reads one.
func (p *Peer) exchange(question, answer any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := json.NewEncoder(p.stdin).Encode(question); err != nil {
		return err
	}
	line, err := p.stdout.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, answer)
}

func (p *Peer) do(t testing.TB, command string, argument, answer any) {
	t.Helper()
	reply := struct {
		Answer any `json:"answer"`
	}{answer}
	if err := p.exchange(map[string]any{command: argument}, &reply); err != nil {
		t.Fatalf("telling oidc-provider %s: %v\n%s", command, err, p.stderr)
	}
}

// Stop ends the process and waits for it.
func (p *Peer) Stop() {
	p.stdin.Close()
	p.cmd.Wait() // its exit status tells nothing: it ends because its input did
}

// Port is where it listens.
func (p *Peer) Port(t testing.TB) (port int) {
	t.Helper()
	u, err := url.Parse(p.Issuer)
	if err == nil {
		_, err = fmt.Sscan(u.Port(), &port)
	}
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Change gives somebody other claims.
func (p *Peer) Change(t testing.TB, name string, person Person) {
	t.Helper()
	p.do(t, "people", map[string]Person{name: person}, nil)
}

// Disable closes somebody's account.
func (p *Peer) Disable(t testing.TB, name string) {
	t.Helper()
	p.do(t, "people", map[string]*Person{name: nil}, nil)
}

// Cut breaks every connection off once a request has arrived, until it is called with false.
func (p *Peer) Cut(t testing.TB, cut bool) {
	t.Helper()
	p.do(t, "cut", cut, nil)
}

// Down closes the door: nobody can connect, until it is called with false.
func (p *Peer) Down(t testing.TB, down bool) {
	t.Helper()
	p.do(t, "down", down, nil)
}

// Delay holds token answers back.
func (p *Peer) Delay(t testing.TB, milliseconds int) {
	t.Helper()
	p.do(t, "delay", milliseconds, nil)
}

// Rotate makes a new signing key; the one before is withdrawn, unless it is kept.
func (p *Peer) Rotate(t testing.TB, keep bool) {
	t.Helper()
	p.do(t, "rotate", keep, nil)
}

// Calls is how often a grant type was asked for ("refresh_token", "authorization_code"), how many of these were "refused",
// and how often people were sent back ("authorize").
func (p *Peer) Calls(t testing.TB, name string) int {
	t.Helper()
	calls := map[string]int{}
	p.do(t, "calls", nil, &calls)
	return calls[name]
}

// Sessions are all sign-ins so far, oldest first.
func (p *Peer) Sessions(t testing.TB) (list []Session) {
	t.Helper()
	p.do(t, "sessions", nil, &list)
	return list
}

// Logout tells a client over the back channel that somebody signed out, and returns "taken" or what the client said.
func (p *Peer) Logout(t testing.TB, client, subject, sid string) (answer string) {
	t.Helper()
	p.do(t, "logout", map[string]string{"client": client, "sub": subject, "sid": sid}, &answer)
	return answer
}

// Token is a logout token for a client, signed but not sent, with these claims over those that it has. Use is "logout" or
// "idtoken".
func (p *Peer) Token(t testing.TB, client, subject, use string, claims map[string]any) (token string) {
	t.Helper()
	p.do(t, "token", map[string]any{"client": client, "sub": subject, "use": use, "claims": claims}, &token)
	return token
}
