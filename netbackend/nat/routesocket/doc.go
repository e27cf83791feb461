// Package routesocket opens sockets to the host's routing table (rtnetlink(7)): for the engine, or for another process that may open none
// itself. What is asked there, and what the answers mean, is not known here.
package routesocket
