package upstream

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"syscall"

	"sallyport/gateway/upstream/http1"
)

var (
	// ErrNoEndpoint means that there is no address to ask: all are drained, found down by health checks, or not known
	// because their name was never resolved.
	ErrNoEndpoint = errors.New("no address of the app is in service")
	// ErrOverloaded means that every address has as many requests under way and waiting as its limits allow.
	ErrOverloaded = errors.New("every address of the app is at its limit")
)

// timeoutError says which of our own limits on an app's time was exceeded. It is a net.Error.
type timeoutError string

func (e timeoutError) Error() string   { return string(e) }
func (e timeoutError) Timeout() bool   { return true }
func (e timeoutError) Temporary() bool { return false }

const (
	errAttemptTimeout timeoutError = "the app did not answer within timeouts.attempt"
	errTotalTimeout   timeoutError = "the app did not answer within timeouts.total"
)

// connectError is a connection that could not be made: nothing of a request was sent on it.
type connectError struct {
	what string
	err  error
}

func (e *connectError) Error() string { return e.what + ": " + e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }
func (e *connectError) Timeout() bool { return isTimeout(e.err) }

// Temporary makes it a net.Error.
func (e *connectError) Temporary() bool { return false }

func isTimeout(err error) bool {
	timed, ok := errors.AsType[net.Error](err)
	return ok && timed.Timeout()
}

// neverSent holds for errors that happened before a byte of the request could leave: such a request may go to
// another address whatever its method (RFC 9110 §9.2.2).
func neverSent(err error) bool {
	lean, ok := errors.AsType[*http1.Error](err)
	return neverConnected(err) || ok && lean.Stage == http1.Unsent
}

// neverConnected holds when that was for want of a connection.
func neverConnected(err error) bool {
	_, ok := errors.AsType[*connectError](err)
	return ok
}

// isStale holds when a kept connection turned out to be closed.
func isStale(err error) bool {
	lean, ok := errors.AsType[*http1.Error](err)
	return ok && lean.Stage == http1.Stale
}

// classOf names what went wrong in one word, for metrics and lists.
func classOf(err error) string {
	connecting := neverSent(err)
	_, resolving := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, ErrForbiddenAddress):
		return "forbidden"
	case resolving:
		return "dns"
	case connecting && isTimeout(err):
		return "connect_timeout"
	case connecting:
		return "connect"
	case isTimeout(err):
		return "timeout"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "closed"
	}
	return "protocol"
}

// statusClass is the class of an answer that counts as a failure.
func statusClass(status int) string { return "status_" + strconv.Itoa(status) }

// failed holds for the statuses with which a server or what stands before it says that it is not well.
func failed(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
