package gateway

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
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
