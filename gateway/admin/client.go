package admin

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"

	"sallyport/audit/report"
)

// ErrNoGateway says that no gateway answers on the socket.
var ErrNoGateway = errors.New("no gateway is running")

// Refused is a gateway's no.
type Refused struct {
	Status int    // HTTP status
	Text   string // the gateway's words; may have several lines
}

func (e *Refused) Error() string { return e.Text }

// socketHost is the host that Client asks behind the socket. No web page has this name: it has no dot and no port.
const socketHost = "sallyport"

// Client talks to a running gateway. Its methods may run at once; their errors are ErrNoGateway, a *Refused, or tell
// what went wrong in between.
type Client struct{ http http.Client }

// NewClient returns a client for the gateway behind the socket. Nothing is dialled before the first call.
func NewClient(socket string) *Client {
	var dialer net.Dialer
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status asks how the gateway is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var status Status
	err := c.call(ctx, http.MethodGet, "/v1/status", nil, &status)
	return status, err
}

// Reload makes the gateway read its configuration again.
func (c *Client) Reload(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/reload", struct{}{}, &struct{}{})
}

// Sessions lists sign-in sessions.
func (c *Client) Sessions(ctx context.Context, f Filter) ([]Session, error) {
	var found []Session
	err := c.call(ctx, http.MethodGet, "/v1/sessions?"+f.query().Encode(), nil, &found)
	return found, err
}

// Revoke ends sign-in sessions and returns them.
func (c *Client) Revoke(ctx context.Context, f Filter) ([]Session, error) {
	var ended []Session
	err := c.call(ctx, http.MethodPost, "/v1/sessions/revoke", f, &ended)
	return ended, err
}

// Purge drops stored answers and tells how many there were.
func (c *Client) Purge(ctx context.Context, what Purge) (Purged, error) {
	var purged Purged
	err := c.call(ctx, http.MethodPost, "/v1/cache/purge", what, &purged)
	return purged, err
}

// Upstreams lists the addresses of the apps.
func (c *Client) Upstreams(ctx context.Context) ([]Upstream, error) {
	var list []Upstream
	err := c.call(ctx, http.MethodGet, "/v1/upstreams", nil, &list)
	return list, err
}

// Drain takes an address out of service or puts it back, and lists the addresses as they are then.
func (c *Client) Drain(ctx context.Context, what Drain) ([]Upstream, error) {
	var list []Upstream
	err := c.call(ctx, http.MethodPost, "/v1/upstreams/drain", what, &list)
	return list, err
}

// AnnounceRead puts on record that the caller is about to read the audit logs.
func (c *Client) AnnounceRead(ctx context.Context, what Reading) error {
	return c.call(ctx, http.MethodPost, "/v1/audit/read", what, &struct{}{})
}

// Review puts on record what a review of somebody's access found.
func (c *Client) Review(ctx context.Context, what report.Review) error {
	return c.call(ctx, http.MethodPost, "/v1/audit/review", what, &struct{}{})
}

// SignManifest has the gateway's key process sign an evidence bundle's manifest.
func (c *Client) SignManifest(ctx context.Context, sha256 [32]byte) (note []byte, err error) {
	var signed SignedNote
	err = c.call(ctx, http.MethodPost, "/v1/audit/manifest", Manifest{hex.EncodeToString(sha256[:])}, &signed)
	return []byte(signed.Note), err
}

// VerifierKeys asks for the keys that vouch for checkpoints and manifests.
func (c *Client) VerifierKeys(ctx context.Context) ([]string, error) {
	var trust TrustKeys
	err := c.call(ctx, http.MethodGet, "/v1/audit/trust", nil, &trust)
	return trust.Keys, err
}

// Reindex has the gateway build the searchable copy of the log anew.
func (c *Client) Reindex(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/audit/reindex", struct{}{}, &struct{}{})
}

// Backup writes a consistent copy of the gateway's state.
func (c *Client) Backup(ctx context.Context, to io.Writer) error {
	body, err := c.do(ctx, http.MethodPost, "/v1/backup", struct{}{})
	if err != nil {
		return err
	}
	defer body.Close()
	if _, err := io.Copy(to, body); err != nil {
		return fmt.Errorf("copying the state: %w", err)
	}
	return nil
}

// Close closes idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	answer, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer answer.Close()
	if err := json.NewDecoder(answer).Decode(into); err != nil {
		return fmt.Errorf("reading the gateway's answer: %w", err)
	}
	return nil
}

// do returns the body of a successful answer.
func (c *Client) do(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://"+socketHost+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, dialError(err)
	}
	if response.StatusCode == http.StatusOK {
		return response.Body, nil
	}
	defer response.Body.Close()
	return nil, refusedBy(response)
}

// dialError tells a gateway that is not there from one that may not be reached.
func dialError(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err // the URL is ours and says nothing
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w: %w", ErrNoGateway, err)
	}
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("this account may not operate the gateway: %w", err)
	}
	return fmt.Errorf("calling the gateway: %w", err)
}

func refusedBy(response *http.Response) error {
	var said problem
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&said); err != nil || said.Error == "" {
		said.Error = "the gateway answered " + response.Status
	}
	return &Refused{Status: response.StatusCode, Text: said.Error}
}
