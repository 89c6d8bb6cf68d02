// DynamoDB Local, bound to 127.0.0.1: it listens on every interface otherwise, and has no option against it.

import org.eclipse.jetty.server.*;
import software.amazon.dynamodb.services.local.main.ServerRunner;

class Loopback {
    public static void main(String[] arguments) throws Exception {
        var proxy = ServerRunner.createServerFromCommandLineArgs(arguments);
        var field = proxy.getClass().getDeclaredField("server");
        field.setAccessible(true);
        ((ServerConnector) ((Server) field.get(proxy)).getConnectors()[0]).setHost("127.0.0.1");
        proxy.start();
        proxy.join();
    }
}
