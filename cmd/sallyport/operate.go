package main

import (
	"errors"
	"net/http"
	"os"

	"sallyport/gateway/admin"
	"sallyport/gateway/config"
)

// gateway returns a client of the running gateway that the configuration names.
func (in *invocation) gateway() (*admin.Client, error) {
	places, err := config.Find(in.file, os.LookupEnv)
	if err != nil {
		return nil, err
	}
	return admin.NewClient(places.Admin.Socket), nil
}

// answered marks what a gateway refused for a reason in the request or the configuration as its answer. All else is a
// failure to get one.
func answered(err error) error {
	refused, ok := errors.AsType[*admin.Refused](err)
	if ok && (refused.Status == http.StatusUnprocessableEntity || refused.Status == http.StatusBadRequest) {
		return no{err}
	}
	return err
}
