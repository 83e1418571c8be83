import java.util.Map;
import java.util.TreeMap;
import org.apache.curator.framework.CuratorFramework;
import org.apache.curator.framework.CuratorFrameworkFactory;
import org.apache.curator.retry.RetryOneTime;
import org.apache.curator.x.discovery.ServiceDiscovery;
import org.apache.curator.x.discovery.ServiceDiscoveryBuilder;
import org.apache.curator.x.discovery.ServiceInstance;
import org.apache.curator.x.discovery.UriSpec;
import org.springframework.cloud.zookeeper.discovery.ZookeeperInstance;

/**
 * A Java peer in ZooKeeper, over Curator's service discovery.
 *
 * <pre>
 * CuratorPeer write HOSTS BASE SERVICE spring|map ID ADDRESS PORT    lists an instance until stdin ends
 * CuratorPeer read HOSTS BASE SERVICE spring|map                     prints each instance as a line
 * </pre>
 */
public final class CuratorPeer {
    private static final Map<String, String> METADATA = new TreeMap<>(Map.of("weight", "2", "zone", "java"));

    public static void main(String[] arguments) throws Exception {
        try (CuratorFramework client = CuratorFrameworkFactory.newClient(arguments[1], new RetryOneTime(100))) {
            client.start();
            boolean spring = arguments[4].equals("spring");
            if (arguments[0].equals("write") && spring) {
                ZookeeperInstance payload = new ZookeeperInstance(arguments[5], arguments[3], METADATA);
                write(client, ZookeeperInstance.class, payload, arguments);
            } else if (arguments[0].equals("write")) {
                write(client, Map.class, Map.of("metadata", METADATA), arguments);
            } else if (spring) {
                read(client, ZookeeperInstance.class, arguments);
            } else {
                read(client, Map.class, arguments);
            }
        }
    }

    private static <T> void write(CuratorFramework client, Class<T> form, T payload, String[] arguments) throws Exception {
        ServiceInstance<T> instance = ServiceInstance.<T>builder()
            .name(arguments[3]).id(arguments[5]).address(arguments[6]).port(Integer.parseInt(arguments[7]))
            .payload(payload).uriSpec(new UriSpec("{scheme}://{address}:{port}")).build();
        try (ServiceDiscovery<T> discovery = discovery(client, form, arguments[2])) {
            discovery.start();
            discovery.registerService(instance);
            System.out.println("written");
            System.in.readAllBytes();
        }
    }

    private static <T> void read(CuratorFramework client, Class<T> form, String[] arguments) throws Exception {
        try (ServiceDiscovery<T> discovery = discovery(client, form, arguments[2])) {
            discovery.start();
            for (ServiceInstance<T> found : discovery.queryForInstances(arguments[3])) {
                Object payload = found.getPayload();
                Object metadata = payload instanceof ZookeeperInstance
                    ? ((ZookeeperInstance) payload).getMetadata() : ((Map<?, ?>) payload).get("metadata");
                System.out.println(found.getId() + " " + found.buildUriSpec() + " enabled=" + found.isEnabled() + " "
                    + new TreeMap<>((Map<?, ?>) metadata));
            }
        }
    }

    private static <T> ServiceDiscovery<T> discovery(CuratorFramework client, Class<T> form, String base) {
        return ServiceDiscoveryBuilder.builder(form).client(client).basePath(base).build();
    }
}
