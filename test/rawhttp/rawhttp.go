// Package rawhttp speaks HTTP the way attackers do: exact bytes over TLS (HTTP/1.1) and single frames (HTTP/2), with any
// server name in the handshake, against an address on this machine. It also has an app that keeps the exact bytes it
// received, and the rows of the threat list that need both.
//
//	rawhttp.Run(t, rawhttp.Target{Dialer: …, Host: …, Origin: origin}, rawhttp.Cases())
//
// sends every row to a running gateway and checks what came back and what reached the app.
package rawhttp

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// Patience of a client: how long an answer may take, and the end of a connection that should end.
const (
	answerWait = 10 * time.Second
	closeWait  = time.Second
	pingWait   = time.Second / 4 // of answers behind the one to a ping
)

// silent is how waiting in vain ends.
const silent = "silence"

// Dialer reaches one gateway.
type Dialer struct {
	Address string // such as 127.0.0.1:8443
	Roots   *x509.CertPool
}

// Answer is what came back for one request.
type Answer struct {
	Status int         // 0 when the peer closed or reset in place of an answer
	Header http.Header // nil with Status 0
	Body   []byte
	Close  bool   // no more answers follow on this connection
	Ended  string // how it ended in place of an answer, for failure texts
}

func (a Answer) String() string {
	if a.Status == 0 {
		return "no answer (" + a.Ended + ")"
	}
	text := string(a.Body[:min(len(a.Body), 200)])
	return fmt.Sprintf("%d, Location %q, %q", a.Status, a.Header.Get("Location"), text)
}

// Conn is one HTTP/1.1 connection on which any bytes may be sent.
type Conn struct {
	tls    *tls.Conn
	reader *bufio.Reader
}

// Dial opens a TLS connection with a server name, offering HTTP/1.1 only.
func (d Dialer) Dial(serverName string) (*Conn, error) {
	conn, err := d.handshake(serverName, "http/1.1")
	if err != nil {
		return nil, err
	}
	return &Conn{conn, bufio.NewReader(conn)}, nil
}

func (d Dialer) handshake(serverName, protocol string) (*tls.Conn, error) {
	dialer := &net.Dialer{Timeout: answerWait}
	return tls.DialWithDialer(dialer, "tcp", d.Address, &tls.Config{
		ServerName: serverName, RootCAs: d.Roots, NextProtos: []string{protocol},
		InsecureSkipVerify: serverName == "", // who names nobody has nothing to verify
	})
}

// Plain sends bytes before any TLS and returns what comes back until the peer closes.
func (d Dialer) Plain(raw string) (string, error) {
	conn, err := net.DialTimeout("tcp", d.Address, answerWait)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerWait))
	if _, err := io.WriteString(conn, raw); err != nil {
		return "", err
	}
	got, err := io.ReadAll(conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return string(got), err
	}
	return string(got), nil // a reset is a close too
}

// Close hangs up.
func (c *Conn) Close() { c.tls.Close() }

// Send writes raw as it is. An error means that the peer had hung up, which may be its answer.
func (c *Conn) Send(raw string) error {
	c.tls.SetWriteDeadline(time.Now().Add(answerWait))
	_, err := io.WriteString(c.tls, raw)
	return err
}

// Receive reads one answer to a request of this method; 1xx answers are passed over. No answer within wait has
// Status 0.
func (c *Conn) Receive(method string, wait time.Duration) Answer {
	c.tls.SetReadDeadline(time.Now().Add(wait))
	for {
		res, err := http.ReadResponse(c.reader, &http.Request{Method: method})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return Answer{Ended: silent}
		case err != nil:
			return Answer{Ended: err.Error()}
		}
		if res.StatusCode >= 100 && res.StatusCode < 200 && res.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		body, err := io.ReadAll(res.Body)
		if err != nil {
			body = fmt.Appendf(body, " [body ended: %v]", err)
		}
		return Answer{Status: res.StatusCode, Header: res.Header, Body: body, Close: res.Close}
	}
}

// Exchange sends raw and reads the answers that are wanted, then those that nobody wanted. Whether the connection has
// ended before shows by last, an ordinary request that asks for its end: it is answered, as one more, when it has not. An
// empty last says that the client has no more to say, and waits for the end.
func (c *Conn) Exchange(raw string, want int, last string) (answers []Answer, closed bool) {
	method, _, _ := strings.Cut(raw, " ")
	c.Send(raw) // an error is seen when reading
	if last == "" {
		c.tls.CloseWrite()
	}
	for range want {
		answer := c.Receive(method, answerWait)
		answers = append(answers, answer)
		if answer.Status == 0 {
			return answers, answer.Ended != silent
		}
	}
	if last != "" {
		c.Send(last)
	}
	for {
		answer := c.Receive("GET", closeWait)
		if answer.Status == 0 {
			return answers, answer.Ended != silent
		}
		answers = append(answers, answer)
	}
}
