use super::*;

#[test]
fn connections_leave_half_of_the_files_to_the_program() {
    let most = |instances_per_service, connections_per_instance, files| {
        let config = DiscoveryConfig { instances_per_service, connections_per_instance, ..DiscoveryConfig::default() };
        config.most_instances(files)
    };
    assert_eq!([most(256, 1, 1024), most(256, 1, 256), most(256, 4, 256), most(3, 1, 256)], [256, 128, 32, 3]);
    assert_eq!([most(256, 64, 2), most(1, 1, usize::MAX)], [1, 1]);
}
