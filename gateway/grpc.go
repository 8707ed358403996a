package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sallyport/gateway/upstream"
)

// Statuses of gRPC calls that the gateway ends itself (https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
const (
	grpcInvalidArgument  = 3
	grpcPermissionDenied = 7
	grpcResourceExceeded = 8
	grpcUnimplemented    = 12
	grpcInternal         = 13
	grpcUnavailable      = 14
	grpcUnauthenticated  = 16
)

// isGRPC recognises gRPC by its content type, with or without a message format. gRPC-Web is another protocol: it keeps
// its status in the body.
func isGRPC(contentType string) bool {
	rest, found := strings.CutPrefix(contentType, "application/grpc")
	return found && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// callsGRPC reports whether the client makes a gRPC call: in HTTP/2, by POST, and ready for the trailer in which the
// status is (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func (x *exchange) callsGRPC() bool {
	kind, te := x.r.Header["Content-Type"], x.r.Header["Te"]
	return x.r.ProtoMajor == 2 && x.req.Method == http.MethodPost && len(kind) == 1 && isGRPC(kind[0]) && !strings.Contains(kind[0], ";") &&
		len(te) == 1 && te[0] == "trailers"
}

// isCall reports whether the request is a gRPC call to an app that may speak it: one said to speak HTTP/2, or one with
// which TLS can agree on it.
func (x *exchange) isCall() bool {
	if !x.callsGRPC() {
		return false
	}
	switch x.app.UpstreamProtocol {
	case upstream.ProtocolHTTP1:
		return false
	case upstream.ProtocolH2, upstream.ProtocolH2C:
		return true
	}
	return !slices.ContainsFunc(x.app.Upstreams, func(a upstream.Address) bool { return a.URL.Scheme != "https" })
}

// streamsCall reports whether the request is a gRPC call whose messages go through as they come. The client chooses the
// content type, and streams are not inspected: so an app that inspects must be said to speak HTTP/2, and what any reader
// of JSON would take is a body like others there.
func (x *exchange) streamsCall() bool {
	switch {
	case !x.isCall():
		return false
	case x.app.inspector == nil:
		return true
	}
	said := x.app.UpstreamProtocol == upstream.ProtocolH2 || x.app.UpstreamProtocol == upstream.ProtocolH2C
	return said && !strings.HasSuffix(x.req.ContentType(), "+json")
}

// endGRPC ends a call that has begun with a status in place of the app's.
func (x *exchange) endGRPC() {
	status, message := grpcUnavailable, "the app broke off"
	if x.ctx.Err() != nil {
		status, message = grpcCause(context.Cause(x.ctx))
	}
	header := x.w.Header()
	header.Set(http.TrailerPrefix+"Grpc-Status", strconv.Itoa(status))
	header.Set(http.TrailerPrefix+"Grpc-Message", grpcMessage(message))
}

// grpcCause is the status that goes with the reason for which the gateway ended a call.
func grpcCause(cause error) (status int, message string) {
	switch {
	case errors.Is(cause, ErrSessionRevoked), errors.Is(cause, ErrSignedOut), errors.Is(cause, ErrSessionExpired),
		errors.Is(cause, ErrPolicyChanged), errors.Is(cause, ErrReauthorize):
		return grpcPermissionDenied, cause.Error()
	}
	return grpcUnavailable, cause.Error()
}

// grpcRefusal answers a call that was refused, before anything was said: status and header in one.
func (x *exchange) grpcRefusal(refusal *Refusal) {
	header := x.w.Header()
	header.Set("Content-Type", "application/grpc")
	header.Set("Grpc-Status", strconv.Itoa(grpcStatus(refusal.Status)))
	header.Set("Grpc-Message", grpcMessage(refusal.Public))
	x.w.WriteHeader(http.StatusOK)
}

// grpcStatus is the gRPC status that says what an HTTP status says.
func grpcStatus(status int) int {
	switch status {
	case http.StatusUnauthorized:
		return grpcUnauthenticated
	case http.StatusForbidden:
		return grpcPermissionDenied
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusMisdirectedRequest:
		return grpcUnimplemented
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		return grpcResourceExceeded
	case http.StatusInternalServerError:
		return grpcInternal
	}
	if status >= 500 {
		return grpcUnavailable
	}
	return grpcInvalidArgument
}

// grpcMessage percent-encodes a message as the gRPC protocol wants it.
func grpcMessage(text string) string { return url.PathEscape(text) }
