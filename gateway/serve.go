// Package gateway takes one request from socket to app and back.
//
// ServeHTTP below is the whole way of a request; every stage is a file of its name. The order is the security
// argument: a request is made unambiguous before anything reads it, its sender is known before it is judged, it is
// judged before it is recorded, and the record is durable before a byte reaches the app. There is one judge, the
// policy; protocol refusals and limits reject what could not be judged.
package gateway

import "net/http"

// ServeHTTP carries one request through the stages.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := s.begin(w, r)
	defer x.finish()
	if err := x.serve(); err != nil {
		x.refuse(err)
	}
}

func (x *exchange) serve() error {
	if err := x.admit(); err != nil { // canonical request, or a refusal
		return err
	}
	if handler := x.own(); handler != nil { // the gateway's own pages and endpoints
		return handler(x)
	}
	if err := x.match(); err != nil { // host + path → app
		return err
	}
	if handler := x.preflight(); handler != nil { // a browser asks what a page of another origin may do
		return handler(x)
	}
	if err := x.identify(); err != nil { // session → identity; nobody is an answer too
		return err
	}
	if err := x.limit(); err != nil { // per address, identity and app
		return err
	}
	if err := x.recheck(); err != nil { // what the provider says of the person by now
		return err
	}
	if err := x.fresh(); err != nil { // the session's own browser, and its sign-in not too long ago
		return err
	}
	if err := x.join(); err != nil { // strangers are judged so many at once
		return err
	}
	if err := x.inspect(); err != nil { // findings for the policy, where the app wants them
		return err
	}
	if err := x.decide(); err != nil { // input → verdict
		return err
	}
	if err := x.oblige(); err != nil { // limits that the policy sets
		return err
	}
	if err := x.record(); err != nil { // durable before it takes effect, allow and deny alike
		return err
	}
	if err := x.verdictRefusal(); err != nil {
		return err
	}
	if err := x.sendKept(); err != nil { // a form that was kept is sent once
		return err
	}
	return x.forward()
}
