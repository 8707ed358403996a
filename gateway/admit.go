package gateway

import (
	"net/http"

	"sallyport/audit"
	"sallyport/gateway/canon"
)

// admit makes the request unambiguous or refuses it. Everything later reads the canonical form only.
func (x *exchange) admit() error {
	req, err := canon.Parse(x.conn.address, x.r, x.snap.rules)
	if err != nil {
		return err
	}
	x.req = req
	if req.Close {
		x.w.Header().Set("Connection", "close")
	}
	if !x.knownHost() {
		return &Refusal{Status: http.StatusMisdirectedRequest, Effect: audit.Reject, Reason: "misdirected",
			Public: "This gateway does not serve that name."}
	}
	return nil
}

func (x *exchange) knownHost() bool {
	return x.req.Host == x.snap.AuthHost || x.snap.Routes.HasHost(x.req.Host)
}
